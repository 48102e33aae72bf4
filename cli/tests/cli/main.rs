//! Everything of coftctl that is more than one module: what it prints, what is generated from it, and its talk with a
//! service.

mod generated;
mod models;
mod rendering;
mod talking;
