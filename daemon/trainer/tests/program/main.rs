//! The program as it is built: killed, unheard, on a full disk, and what it is linked with.

mod full_disk;
mod kill;
mod libraries;
mod unheard;
