//! The log is changed over the bus, as systemctl does it.

use super::*;
use zbus::Proxy;
use zbus::proxy::Builder;

#[tokio::test]
async fn the_log_s_level_is_read_and_set() {
    let stage = Stage::set(grown()).await;
    let log = Builder::<Proxy<'_>>::new(&stage.client).destination(BUS_NAME).path("/org/freedesktop/LogControl1");
    let log = log.interface("org.freedesktop.LogControl1").cache_properties(CacheProperties::No);
    let log = log.build().await.unwrap();
    let read = async |name: &str| soon(log.get_property::<String>(name)).await.unwrap();
    assert_eq!(read("LogLevel").await, "info");
    assert_eq!((read("LogTarget").await, read("SyslogIdentifier").await), ("console".into(), "coftd".into()));
    soon(log.set_property("LogLevel", "debug")).await.unwrap();
    assert_eq!(read("LogLevel").await, "debug");
    for (property, value, why) in [("LogLevel", "loud", "no log level"), ("LogTarget", "kmsg", "no log target")] {
        let refused = soon(log.set_property(property, value)).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(read("LogLevel").await, "debug");
    stage.service.stop().await.unwrap();
}
