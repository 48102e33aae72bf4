//! A model repository on the loopback interface, which can break connections and send other bytes than it announces.

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

struct State {
    files: BTreeMap<String, Vec<u8>>,
    fault: Mutex<Fault>,
    /// File and first byte of each answer with a body of interest.
    asked: Mutex<Vec<(String, usize)>>,
    requests: Mutex<usize>,
}

pub struct Hub {
    address: String,
    state: Arc<State>,
}

impl Hub {
    /// Serves the files of a directory as the repository `parts/clip`.
    pub fn of(dir: &str, fault: Fault) -> Self {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files = files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()));
        let state = Arc::new(State {
            files: files.collect(),
            fault: Mutex::new(fault),
            asked: Mutex::default(),
            requests: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                // A client that has gone is no fault of the server.
                thread::spawn(move || drop(shared.serve(stream.unwrap())));
            }
        });
        Self { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn heal(&self) {
        *self.state.fault.lock().unwrap() = Fault::None;
    }

    pub fn requests(&self) -> usize {
        *self.state.requests.lock().unwrap()
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
            let range =
                lines.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
            if !self.answer(&mut stream, &path, range.as_deref())? {
                return Ok(());
            }
        }
    }

    /// Answers a request; false where the connection is to be broken.
    fn answer(&self, stream: &mut TcpStream, path: &str, range: Option<&str>) -> std::io::Result<bool> {
        if path.starts_with("/api/models/parts/clip") {
            let siblings: Vec<_> = self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )?;
            return Ok(true);
        }
        let name = path.strip_prefix(&format!("/parts/clip/resolve/{COMMIT}/"));
        let Some((name, content)) = name.and_then(|name| self.files.get_key_value(name)) else {
            write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
            return Ok(true);
        };
        let (start, end) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
        let start: usize = start.parse().unwrap();
        let end = end.parse::<usize>().map_or(content.len(), |last| last + 1);
        let mut body = content[start..end].to_vec();
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\netag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-range: bytes {start}-{}/{}\r\ncontent-length: {}\r\n\r\n",
            digest(name, content),
            end - 1,
            content.len(),
            body.len()
        )?;
        let mut fault = self.fault.lock().unwrap();
        if end - start > 1 || content.len() == 1 {
            self.asked.lock().unwrap().push((name.clone(), start));
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
        }
        stream.write_all(&body)?;
        Ok(true)
    }
}
