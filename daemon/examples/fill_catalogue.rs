//! Fills a catalogue of coftd with images that were taken in long ago, for `cargo xtask bench ingest`.
//!
//! Run:  fill_catalogue CATALOGUE SOURCE ROWS PX
//!
//! As a source of years leaves it: random ids, each image in a file of its own, the pixels of the last 10000 kept at
//! PX, those of the others let go.

use anyhow::{Context, bail};
use rusqlite::{Connection, params};
use std::env;

/// Images whose pixels are kept.
const KEPT: u64 = 10_000;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [catalogue, source, rows, px] = &args[..] else { bail!("fill_catalogue CATALOGUE SOURCE ROWS PX") };
    let (rows, px): (u64, u32) = (rows.parse().context("ROWS")?, px.parse().context("PX")?);
    let mut db = Connection::open(catalogue)?;
    // What is lost with the power is made again.
    db.pragma_update(None, "synchronous", "OFF")?;
    db.pragma_update(None, "cache_size", -1_000_000)?;
    let transaction = db.transaction()?;
    {
        let mut image = transaction.prepare(
            "INSERT INTO images (id, width_px, height_px, bytes, added, canonical_px, source)
             VALUES (lower(hex(randomblob(32))), 640, 480, 60000, ?1, ?2, ?3) RETURNING id",
        )?;
        let mut path = transaction.prepare(
            "INSERT INTO paths (path, source, image, bytes, modified_ns, changed_ns) VALUES (?1, ?2, ?3, 60000, ?4, ?4)",
        )?;
        for row in 0..rows {
            let px = if row + KEPT < rows { 0 } else { px };
            let id: String = image.query_row(params![row + 1, px, source.as_bytes()], |row| row.get(0))?;
            let file = format!("{source}/{}/{row:09}.jpg", row / 1000);
            path.execute(params![file.as_bytes(), source.as_bytes(), id, row + 1])?;
        }
    }
    transaction.commit()?;
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}
