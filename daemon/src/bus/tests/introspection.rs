//! The committed introspection XML is what the objects say of themselves: `UPDATE_XML=1 cargo test -p coftd` writes it.

use super::*;
use crate::bus::{classifier, generation, job, manager, source};
use std::path::Path;

#[test]
fn the_committed_xml_is_what_the_objects_say() {
    let control = control(grown(), idle()).0;
    check(&manager::Manager::new(no_service()));
    check(&classifier::Classifier::new(control.clone(), no_service().service_commands, clients::Clients::default()));
    check(&generation::Generation::new(control.clone(), GenerationId(1)));
    check(&source::Source::new(control.clone(), 0));
    check(&job::Job::new(control, JobId(1)));
}

#[track_caller]
fn check<I: Interface>(object: &I) {
    let mut interface = String::new();
    object.introspect_to_writer(&mut interface, 1);
    let said = format!(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n{interface}</node>\n"
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("dbus/xml/{}.xml", I::name()));
    if std::env::var_os("UPDATE_XML").is_some() {
        std::fs::write(&file, &said).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == said, "{} is out of date; `UPDATE_XML=1 cargo test -p coftd` writes it", file.display());
}

/// The system bus refuses calls of interfaces that its policy does not name.
#[test]
fn every_interface_with_methods_is_in_the_policy_of_the_bus() {
    let policy = include_str!("../../../../packaging/dbus/org.coft.Coft1.conf");
    let xml = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus/xml");
    let mut files = 0;
    for file in std::fs::read_dir(xml).unwrap() {
        let path = file.unwrap().path();
        let interface = path.file_stem().unwrap().to_str().unwrap();
        if std::fs::read_to_string(&path).unwrap().contains("<method ") {
            assert!(policy.contains(&format!("send_interface=\"{interface}\"")), "{interface}");
        }
        files += 1;
    }
    assert_eq!(files, 5, "one file an interface");
}
