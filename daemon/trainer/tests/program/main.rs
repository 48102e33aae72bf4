//! Tests of the real program: killed, disconnected from its daemon, on a full disk, and the libraries that it is linked
//! with.

mod disconnected;
mod full_disk;
mod kill;
mod libraries;
