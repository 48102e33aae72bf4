//! The program as it is built: killed, cut off from its daemon, on a full disk, and what it is linked with.

mod disconnected;
mod full_disk;
mod kill;
mod libraries;
