//! A model repository on the loopback interface, which can break connections, send other bytes than it announces, and
//! behave as mirrors of the hub do. It has two ports, and so is two servers to whoever asks.

use sha1::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// The first answer with the weights ends in the middle.
    Breaks,
    /// Every such answer ends after a part of what is left.
    BreaksAlways,
    /// This file comes with its last byte changed.
    Changes(&'static str),
}

/// How the first port answers where a file is asked for.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    /// With the file and its digest.
    Plain,
    /// The other port has everything, the list of files too.
    Moved,
    /// Another path has the file, and no digest; this answer has it.
    ElsewhereHere,
    /// The other port has the file, with an ETag that is no digest; this answer has the digest in X-Linked-ETag.
    Linked,
    /// As above, and states another size.
    LinkedToAnotherSize,
    /// The list of files has the digests; no answer has.
    Listed,
    /// Nobody states a digest.
    Undigested,
    /// The digest comes as a weak ETag.
    Weak,
    /// Parts of a file are not given.
    Whole,
    /// Redirects without a Location.
    Nowhere,
    /// Redirects to itself.
    Circle,
    /// Redirects to something new each time.
    Endless,
    /// Redirects to an address of another kind.
    Strange,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    fault: Mutex<Fault>,
    manner: Manner,
    ports: [u16; 2],
    /// File and first byte of each answer with a body of interest.
    asked: Mutex<Vec<(String, usize)>>,
    requests: Mutex<usize>,
    /// The ports that a token was sent to.
    trusted: Mutex<Vec<u16>>,
}

pub struct Hub {
    state: Arc<State>,
}

impl Hub {
    /// Serves the files of a directory as the repository `parts/clip`.
    pub fn of(dir: &str, fault: Fault) -> Self {
        Self::with(dir, fault, Manner::Plain)
    }

    pub fn behaving(dir: &str, manner: Manner) -> Self {
        Self::with(dir, Fault::None, manner)
    }

    fn with(dir: &str, fault: Fault, manner: Manner) -> Self {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files = files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()));
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let state = Arc::new(State {
            files: files.collect(),
            fault: Mutex::new(fault),
            manner,
            ports: [0, 1].map(|i: usize| listeners[i].local_addr().unwrap().port()),
            asked: Mutex::default(),
            requests: Mutex::default(),
            trusted: Mutex::default(),
        });
        for listener in listeners {
            let shared = state.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let shared = shared.clone();
                    // A client that has gone is no fault of the server.
                    thread::spawn(move || drop(shared.serve(stream.unwrap())));
                }
            });
        }
        Self { state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.state.ports[0])
    }

    pub fn heal(&self) {
        *self.state.fault.lock().unwrap() = Fault::None;
    }

    pub fn requests(&self) -> usize {
        *self.state.requests.lock().unwrap()
    }

    /// Whether a token was sent to the hub, and to the other server.
    pub fn trusted(&self) -> [bool; 2] {
        self.state.ports.map(|port| self.state.trusted.lock().unwrap().contains(&port))
    }

    /// From which byte on a file was asked for, time after time.
    pub fn starts(&self, file: &str) -> Vec<usize> {
        self.state.asked.lock().unwrap().iter().filter(|(name, _)| name == file).map(|(_, start)| *start).collect()
    }

    /// Lays the files out as other programs' downloads would.
    pub fn fill_cache(&self, cache: &Path) {
        let repository = cache.join("models--parts--clip");
        let (blobs, snapshot) = (repository.join("blobs"), repository.join("snapshots").join(COMMIT));
        for dir in [&blobs, &snapshot, &repository.join("refs")] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(repository.join("refs/main"), COMMIT).unwrap();
        for (name, content) in &self.state.files {
            let blob = blobs.join(digest(name, content));
            fs::write(&blob, content).unwrap();
            std::os::unix::fs::symlink(blob, snapshot.join(name)).unwrap();
        }
    }
}

/// As the hub names contents: weights by SHA-256, small files as git does.
fn digest(name: &str, content: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if name.ends_with(".safetensors") {
        return hex(&sha2::Sha256::digest(content));
    }
    hex(&sha1::Sha1::digest([format!("blob {}\0", content.len()).as_bytes(), content].concat()))
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let port = stream.local_addr()?.port();
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            *self.requests.lock().unwrap() += 1;
            let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
            let header =
                |name: &str| lines.iter().find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned));
            if header("authorization: bearer").is_some() {
                self.trusted.lock().unwrap().push(port);
            }
            let start = header("range: bytes=").map(|range| range.trim_end_matches('-').parse().unwrap());
            if !self.answer(&mut stream, &path, port == self.ports[1], start)? {
                return Ok(());
            }
        }
    }

    /// Answers a request; false where the connection is to be broken.
    fn answer(&self, stream: &mut TcpStream, path: &str, second: bool, start: Option<usize>) -> std::io::Result<bool> {
        let elsewhere = format!("http://127.0.0.1:{}{path}", self.ports[1]);
        if self.manner == Manner::Moved && !second {
            return redirect(stream, 308, &format!("location: {elsewhere}\r\n"));
        }
        if path.starts_with("/api/models/parts/clip") {
            let body = serde_json::json!({ "sha": COMMIT, "siblings": self.listed() }).to_string();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )?;
            return Ok(true);
        }
        let name = path.split('?').next().and_then(|path| path.strip_prefix(&format!("/parts/clip/resolve/{COMMIT}/")));
        let name = name.or_else(|| path.strip_prefix("/elsewhere/"));
        let Some((name, content)) = name.and_then(|name| self.files.get_key_value(name)) else {
            write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
            return Ok(true);
        };
        let digest = digest(name, content);
        let linked =
            |size: usize| format!("location: {elsewhere}\r\nx-linked-etag: \"{digest}\"\r\nx-linked-size: {size}\r\n");
        let requests = *self.requests.lock().unwrap();
        let redirected = match self.manner {
            Manner::ElsewhereHere if !path.starts_with("/elsewhere/") => {
                Some((307, format!("location: /elsewhere/{name}\r\netag: \"{digest}\"\r\n")))
            }
            Manner::Linked if !second => Some((302, linked(content.len()))),
            Manner::LinkedToAnotherSize if !second => Some((302, linked(content.len() + 1))),
            Manner::Nowhere => Some((307, String::new())),
            Manner::Circle => Some((301, format!("location: {path}\r\n"))),
            Manner::Endless => Some((302, format!("location: ?{requests}\r\n"))),
            Manner::Strange => Some((302, "location: file:///etc/passwd\r\n".to_owned())),
            _ => None,
        };
        if let Some((status, headers)) = redirected {
            return redirect(stream, status, &headers);
        }
        let tag = match self.manner {
            Manner::Listed | Manner::Undigested => String::new(),
            Manner::Linked | Manner::LinkedToAnotherSize | Manner::ElsewhereHere => {
                "etag: \"0cc175b9-5\"\r\n".to_owned()
            }
            Manner::Weak => format!("etag: W/\"{digest}\"\r\n"),
            _ => format!("etag: \"{digest}\"\r\n"),
        };
        let whole = content.len();
        let start = start.filter(|_| self.manner != Manner::Whole);
        let (status, range) = match start {
            None => ("200 OK", String::new()),
            Some(start) if start < whole => {
                ("206 Partial Content", format!("content-range: bytes {start}-{}/{whole}\r\n", whole - 1))
            }
            Some(_) => ("416 Range Not Satisfiable", format!("content-range: bytes */{whole}\r\n")),
        };
        let mut body = content[start.unwrap_or(0).min(whole)..].to_vec();
        write!(stream, "HTTP/1.1 {status}\r\n{tag}{range}content-length: {}\r\n\r\n", body.len())?;
        let mut fault = self.fault.lock().unwrap();
        self.asked.lock().unwrap().push((name.clone(), start.unwrap_or(0)));
        match *fault {
            Fault::Changes(changed) if changed == name => *body.last_mut().unwrap() ^= 1,
            Fault::Breaks | Fault::BreaksAlways if name == "model.safetensors" => {
                if *fault == Fault::Breaks {
                    *fault = Fault::None;
                }
                stream.write_all(&body[..body.len() / 3])?;
                stream.flush()?;
                return Ok(false);
            }
            _ => {}
        }
        stream.write_all(&body)?;
        Ok(true)
    }

    fn listed(&self) -> Vec<serde_json::Value> {
        let listed = |(name, content): (&String, &Vec<u8>)| {
            let mut file = serde_json::json!({ "rfilename": name });
            if self.manner == Manner::Listed {
                let digest = digest(name, content);
                file["size"] = content.len().into();
                match digest.len() {
                    64 => {
                        file["blobId"] = "f".repeat(40).into();
                        file["lfs"] =
                            serde_json::json!({ "sha256": digest, "size": content.len(), "pointerSize": 130 });
                    }
                    _ => file["blobId"] = digest.into(),
                }
            }
            file
        };
        self.files.iter().map(listed).collect()
    }
}

fn redirect(stream: &mut TcpStream, status: u16, headers: &str) -> std::io::Result<bool> {
    write!(stream, "HTTP/1.1 {status} Redirected\r\n{headers}content-length: 2\r\n\r\ngo")?;
    Ok(true)
}
