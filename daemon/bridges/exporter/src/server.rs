//! The HTTP server: two pages, and limits for slow or many clients.

use crate::readings::Readings;
use coft_metrics::{OPENMETRICS, PROMETHEUS};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Most connections at the same time; more must wait. 32 [choice].
const CONNECTIONS: usize = 32;
/// Longest time for a connection with all its requests. 30 s [choice].
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a connection cannot be accepted, for example because no descriptor is free. 1 s [choice].
const PAUSE: Duration = Duration::from_secs(1);

type Page = Response<Full<Bytes>>;

/// Serves until the program is stopped.
pub async fn run(listener: TcpListener, readings: Arc<Readings>) -> ExitCode {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("no connection could be taken: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let readings = Arc::clone(&readings);
        tokio::spawn(async move {
            let _place = place;
            let page = service_fn(|request| answer(request, &readings));
            let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), page);
            // A client that was too slow or has gone loses nothing: it asks again.
            let _ = timeout(PATIENCE, connection).await;
        });
    }
}

async fn answer(request: Request<Incoming>, readings: &Readings) -> Result<Page, Infallible> {
    let page = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let accepts = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let openmetrics = accepts.into_iter().any(|value| value.contains("application/openmetrics-text"));
            let metrics = readings.read().await;
            match openmetrics {
                true => page(StatusCode::OK, OPENMETRICS, metrics.openmetrics()),
                false => page(StatusCode::OK, PROMETHEUS, metrics.prometheus()),
            }
        }
        (&Method::GET | &Method::HEAD, "/") => page(StatusCode::OK, TEXT, "coft-exporter: see /metrics\n".into()),
        (&Method::GET | &Method::HEAD, _) => page(StatusCode::NOT_FOUND, TEXT, "there is only /metrics\n".into()),
        _ => {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET alone\n".into());
            refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            refused
        }
    };
    Ok(page)
}

const TEXT: &str = "text/plain; charset=utf-8";

fn page(status: StatusCode, kind: &'static str, text: String) -> Page {
    let mut page = Response::new(Full::from(text));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    page
}
