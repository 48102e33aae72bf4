//! Access to a model hub over HTTP: queries, redirects, and downloads that continue after an interruption.
//!
//! This module follows redirects itself, at most [`MAX_REDIRECTS`] for a request: the hub states a file's digest in the
//! answer that redirects, and no later answer repeats it. The token is sent only to the hub that was named, never to a
//! server that it redirects to.

use crate::error::CliError;
use coft_models::store::StoreError;
use indicatif::ProgressBar;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use ureq::http::{HeaderMap, Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

/// Most redirects of one request; the hub itself needs two. [choice]
const MAX_REDIRECTS: usize = 10;
/// Number of times that a broken download is continued. Each pause is longer than the one before, at most 10 s.
/// [choice]
const RETRIES: u32 = 4;
/// Time without data after which a connection counts as broken. [choice]
const SILENCE: Duration = Duration::from_secs(60);
/// Longest answer to a query, bytes; downloads of files are not limited by it. [choice]
const MAX_ANSWER_BYTES: u64 = 32 << 20;
/// The characters that are not encoded in a part of an address.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The default hub.
const ENDPOINT: &str = "https://huggingface.co";

#[derive(Debug, Error)]
pub enum Problem {
    #[error("{url}: {source}")]
    Connection { url: String, source: Box<ureq::Error> },
    #[error("{url}: the server answers {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url}: the answer {status} redirects and has no Location header")]
    NoLocation { url: String, status: StatusCode },
    #[error("{url}: the Location header {location:?} is no address of a server")]
    BadLocation { url: String, location: String },
    #[error("{url}: redirected to {target}, which lacks the protection of https; nothing was sent there")]
    Downgrade { url: String, target: String },
    #[error("{url}: more than {MAX_REDIRECTS} redirects; the last led to {last}")]
    TooMany { url: String, last: String },
    #[error("{url}: redirected in a circle, to {target} again")]
    Circle { url: String, target: String },
    #[error("{url}: {have} of {whole} bytes came")]
    Truncated { url: String, have: u64, whole: u64 },
    #[error("{url}: {problem}")]
    Answer { url: String, problem: String },
    #[error("HF_ENDPOINT is {text:?}, which is no address of a server")]
    Endpoint { text: String },
    #[error(
        "{url}: the server states no digest of the file, so that it could not be checked: its answers have neither an \
         X-Linked-ETag header nor an ETag header that is one"
    )]
    NoDigest { url: String },
    #[error(transparent)]
    Local(StoreError),
}

impl Problem {
    /// Whether another try, continuing from here, may succeed.
    fn is_passing(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Truncated { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Status { status, .. } => match status.as_u16() {
                404 => "is there such a repository and revision?",
                401 | 403 => {
                    "it may ask for a login: put a token into the file token in the directory that HF_HOME names, \
                     or use a repository that is open"
                }
                _ => RETRY,
            },
            Self::Connection { .. } | Self::Truncated { .. } => RETRY,
            Self::Endpoint { .. } => "write it as https://SERVER, or unset it to ask the Hugging Face hub",
            _ => "this is the server's fault; HF_ENDPOINT names another server",
        }
    }

    pub fn failure(self) -> CliError {
        match self {
            Self::Local(error) => error.into(),
            problem => CliError::Hub(format!("{problem}\n  {}", problem.hint())),
        }
    }
}

const RETRY: &str = "run the same command again to go on where it stopped; HF_ENDPOINT names another server";

pub struct Hub {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
}

/// An answer that is not a redirect.
struct Answer {
    /// Headers of the redirects before it, then its own.
    headers: Vec<HeaderMap>,
    response: Response<Body>,
}

impl Hub {
    /// The hub that HF_ENDPOINT names, or Hugging Face's.
    pub fn from_env(token: Option<String>) -> Result<Self, Problem> {
        let text = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
        let text = text.unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = text.parse::<Uri>().ok().filter(|uri| is_web(uri) && uri.query().is_none());
        let Some(endpoint) = endpoint else { return Err(Problem::Endpoint { text }) };
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // A compressed answer has another length than the file, and cannot be requested in part.
            .accept_encoding("identity")
            .user_agent(concat!("coftctl/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        Ok(Self { agent: config.build().into(), endpoint, token })
    }

    /// The address of a resource below the hub's address. A `/` within a part is encoded.
    pub fn url<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> String {
        let mut url = self.endpoint.to_string();
        url.truncate(url.trim_end_matches('/').len());
        for part in parts {
            url.push('/');
            url.extend(utf8_percent_encode(part, RESERVED));
        }
        url
    }

    /// Requests a JSON document.
    pub fn ask<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, Problem> {
        let Answer { response, .. } = self.get(url, 0)?;
        let answer = response.into_body().into_with_config().limit(MAX_ANSWER_BYTES).read_json();
        answer.map_err(|error| match error {
            ureq::Error::Json(error) => Problem::Answer {
                url: url.to_owned(),
                problem: format!("the answer is not what a hub says of a repository: {error}"),
            },
            source => Problem::Connection { url: url.to_owned(), source: Box::new(source) },
        })
    }

    /// Downloads a file, appending to what `to` already holds. Returns its digest: `known`, or the one that the hub
    /// states. The digest is not compared with the file here.
    pub fn fetch(&self, url: &str, known: Option<&str>, to: &Path, bar: &ProgressBar) -> Result<String, Problem> {
        let mut tries = 0;
        loop {
            match self.fetch_once(url, known, to, bar) {
                Err(problem) if problem.is_passing() && tries < RETRIES => {
                    let wait = Duration::from_millis(300) * 3u32.pow(tries);
                    std::thread::sleep(wait.min(Duration::from_secs(10)));
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    fn fetch_once(&self, url: &str, known: Option<&str>, to: &Path, bar: &ProgressBar) -> Result<String, Problem> {
        let local = |source| Problem::Local(StoreError::at(to)(source));
        let mut file = OpenOptions::new().create(true).append(true).open(to).map_err(local)?;
        let mut have = file.metadata().map_err(local)?.len();
        let Answer { headers, response, .. } = self.get(url, have)?;
        let digest = known.map(str::to_owned).or_else(|| headers.iter().find_map(digest));
        let digest = digest.ok_or_else(|| Problem::NoDigest { url: url.to_owned() })?;
        let broken = |problem: &str| Problem::Answer { url: url.to_owned(), problem: problem.to_owned() };
        let whole = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (first, whole) =
                    response.headers().get(header::CONTENT_RANGE).and_then(content_range).ok_or_else(|| {
                        broken("a part of the file comes without a Content-Range header that says which")
                    })?;
                if first != have {
                    return Err(broken(&format!(
                        "the part from byte {have} was asked for, and the one from {first} comes"
                    )));
                }
                whole
            }
            // The request began at the end of the file, or beyond it. The digest will show whether the file is
            // complete.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(digest),
            _ => {
                file.set_len(0).map_err(local)?;
                have = 0;
                response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
            }
        };
        let stated =
            headers.iter().find_map(|headers| headers.get("x-linked-size")?.to_str().ok()?.parse::<u64>().ok());
        if let (Some(stated), Some(whole)) = (stated, whole)
            && stated != whole
        {
            return Err(broken(&format!("{whole} bytes come, and the hub's X-Linked-Size header says {stated}")));
        }
        bar.set_length(whole.or(stated).unwrap_or(0));
        bar.set_position(have);
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Problem::Connection { url: url.to_owned(), source: Box::new(source.into()) });
                }
            };
            file.write_all(&buffer[..read]).map_err(local)?;
            have += read as u64;
            bar.set_position(have);
        }
        match whole.or(stated) {
            Some(whole) if have != whole => Err(Problem::Truncated { url: url.to_owned(), have, whole }),
            _ => Ok(digest),
        }
    }

    /// Requests the bytes after the first `have`, and follows redirects.
    fn get(&self, asked: &str, have: u64) -> Result<Answer, Problem> {
        let mut url: Uri = asked.parse().expect("an address that was made of the hub's");
        let (mut headers, mut seen) = (Vec::new(), HashSet::new());
        loop {
            seen.insert(url.clone());
            let mut request = self.agent.get(&url);
            if have > 0 {
                request = request.header(header::RANGE, format!("bytes={have}-"));
            }
            if let Some(token) = self.token.as_deref().filter(|_| server(&url) == server(&self.endpoint)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let connection = |source| Problem::Connection { url: url.to_string(), source: Box::new(source) };
            let response = request.call().map_err(connection)?;
            let status = response.status();
            headers.push(response.headers().clone());
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                if !status.is_success() && status != StatusCode::RANGE_NOT_SATISFIABLE {
                    return Err(Problem::Status { url: url.to_string(), status });
                }
                return Ok(Answer { headers, response });
            }
            let target = target(&url, status, response.headers())?;
            if seen.contains(&target) {
                return Err(Problem::Circle { url: asked.to_owned(), target: target.to_string() });
            }
            if seen.len() > MAX_REDIRECTS {
                return Err(Problem::TooMany { url: asked.to_owned(), last: target.to_string() });
            }
            url = target;
        }
    }
}

fn is_web(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some_and(|host| !host.is_empty())
}

/// The part of an address that a token depends on: protocol, host and port.
fn server(uri: &Uri) -> (Option<&str>, String, Option<u16>) {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (uri.scheme_str(), uri.host().unwrap_or_default().to_ascii_lowercase(), Some(uri.port_u16().unwrap_or(usual)))
}

/// The target of a redirect.
fn target(url: &Uri, status: StatusCode, headers: &HeaderMap) -> Result<Uri, Problem> {
    let Some(location) = headers.get(header::LOCATION) else {
        return Err(Problem::NoLocation { url: url.to_string(), status });
    };
    let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
    let target = resolved(url, &location).parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    let Some(target) = target else { return Err(Problem::BadLocation { url: url.to_string(), location }) };
    match (url.scheme_str(), target.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => Ok(target),
        _ => Err(Problem::Downgrade { url: url.to_string(), target: target.to_string() }),
    }
}

/// A Location header as an address. Missing parts are taken from the address that redirects (RFC 3986, 5.2, without
/// `..`, which servers resolve too).
fn resolved(url: &Uri, location: &str) -> String {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = url.scheme_str().unwrap_or_default();
    let server = format!("{scheme}://{}", url.authority().map_or("", |authority| authority.as_str()));
    let path = url.path();
    match location {
        _ if location.contains("://") && !location.starts_with(['/', '?']) => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{server}{location}"),
        _ if location.starts_with('?') => format!("{server}{path}{location}"),
        _ => format!("{server}{}/{location}", path.rsplit_once('/').map_or("", |(above, _)| above)),
    }
}

/// The digest that an answer states: of the file behind a redirect, or of its own content. A weak ETag is the same
/// digest, sent through a proxy. Text that is not a digest is ignored.
fn digest(headers: &HeaderMap) -> Option<String> {
    ["x-linked-etag", "etag"].into_iter().find_map(|name| {
        let text = headers.get(name)?.to_str().ok()?.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"').to_ascii_lowercase();
        super::is_digest(&text).then_some(text)
    })
}

/// Parses `bytes FIRST-LAST/WHOLE`; servers may write `*` for the whole.
fn content_range(value: &header::HeaderValue) -> Option<(u64, Option<u64>)> {
    let (range, whole) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, whole.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(url: &str, location: &'static str) -> Result<String, String> {
        let headers = [(header::LOCATION, header::HeaderValue::from_static(location))].into_iter().collect();
        let target = target(&url.parse().unwrap(), StatusCode::FOUND, &headers);
        target.map(|target| target.to_string()).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_location_may_leave_out_what_stays() {
        for (location, target) in [
            ("https://b.example/x?y=1", "https://b.example/x?y=1"),
            ("//b.example/x", "https://b.example/x"),
            ("/x?next=http://c.example/", "https://a.example:8443/x?next=http://c.example/"),
            ("?again", "https://a.example:8443/m/f?again"),
            ("g#part", "https://a.example:8443/m/g"),
        ] {
            assert_eq!(led("https://a.example:8443/m/f?q=1", location).as_deref(), Ok(target));
        }
        assert_eq!(led("http://a.example/f", "https://a.example/f").as_deref(), Ok("https://a.example/f"));
    }

    #[test]
    fn what_was_asked_for_in_protection_is_not_fetched_without() {
        for location in ["http://a.example/f", "ftp://a.example/f"] {
            let told = led("https://a.example/f", location).unwrap_err();
            assert!(told.contains("lacks the protection of https"), "{told}");
        }
        assert!(led("https://a.example/f", "https:///f").unwrap_err().contains("is no address of a server"));
    }

    #[test]
    fn a_digest_is_read_in_every_form_that_servers_send_and_nothing_else_is() {
        let digest_of = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), header::HeaderValue::from_str(value).unwrap())
            });
            digest(&headers.collect())
        };
        let (git, sha) = ("0123456789".repeat(4), "0123456789abcdef".repeat(4));
        assert_eq!(digest_of(&[("etag", &format!("W/\"{git}\""))]), Some(git.clone()));
        assert_eq!(digest_of(&[("etag", &format!("\"{git}\"")), ("x-linked-etag", &sha)]), Some(sha));
        assert_eq!(digest_of(&[("etag", "\"d41d8cd98f00b204e9800998ecf8427e-5\"")]), None);
        assert_eq!(digest_of(&[]), None);
    }
}
