//! Bolt, nut and washer.

use super::{Piece, bar, circle, flat, polygon, ring_line};
use crate::world::Random;
use rand::Rng;

/// Side view: hexagonal head with three visible facets, shank, thread.
pub fn bolt(rng: &mut Random) -> Vec<Piece> {
    let head = rng.random_range(0.34..0.44);
    let head_height = rng.random_range(0.26..0.36);
    let shank = head * rng.random_range(0.46..0.58);
    let end = rng.random_range(0.5..1.0);
    let top = -0.9;
    let under = top + head_height;
    let chamfer = 0.18 * head_height;

    let mut pieces = vec![bar(vec![[0.0, under], [0.0, end - 0.04]], shank, 0.0)];
    pieces.push(bar(vec![[0.0, end - 0.05], [0.0, end]], shank * 0.82, -0.15));
    let thread_start = under + rng.random_range(0.1..0.5) * (end - under);
    let turns = rng.random_range(7..=12);
    let pitch = (end - 0.06 - thread_start) / turns as f32;
    for turn in 0..turns {
        let y = thread_start + (turn as f32 + 0.4) * pitch;
        let points = vec![[-shank, y], [shank, y + 0.5 * pitch]];
        pieces.push(Piece::Line { points, width: 0.38 * pitch, tone: -0.55, closed: false });
    }
    if rng.random_bool(0.4) {
        let flange = head * 1.18;
        let rim =
            vec![[-flange, under - 0.06], [flange, under - 0.06], [flange, under + 0.02], [-flange, under + 0.02]];
        pieces.push(flat(vec![rim], -0.1, 0.2));
    }
    let edges = [-head, -0.5 * head, 0.5 * head, head];
    for (facet, tone) in [-0.3, 0.15, -0.12].into_iter().enumerate() {
        let (left, right) = (edges[facet], edges[facet + 1]);
        let cut = |x: f32| if x.abs() == head { top + chamfer } else { top };
        let outline = vec![[left, cut(left)], [right, cut(right)], [right, under], [left, under]];
        pieces.push(flat(vec![outline], tone, 0.2));
    }
    pieces
}

/// Top view: thick hexagon, chamfer, threaded hole.
pub fn nut(rng: &mut Random) -> Vec<Piece> {
    let hole = rng.random_range(0.46..0.58);
    let rings = vec![polygon([0.0; 2], 1.0, 6), circle([0.0; 2], hole)];
    vec![
        Piece::Face { rings, tone: 0.0, contrast: 0.3, thickness: rng.random_range(0.3..0.5) },
        ring_line(0.83, 0.05, 0.35),
        ring_line(hole + 0.09, 0.04, 0.2),
        ring_line(hole + 0.03, 0.06, -0.6),
    ]
}

/// Top view: a thin, plain ring.
pub fn washer(rng: &mut Random) -> Vec<Piece> {
    let hole = rng.random_range(0.42..0.62);
    let rings = vec![circle([0.0; 2], 1.0), circle([0.0; 2], hole)];
    let mut pieces = vec![Piece::Face { rings, tone: 0.1, contrast: 0.35, thickness: rng.random_range(0.06..0.14) }];
    if rng.random_bool(0.3) {
        pieces.push(ring_line(0.95, 0.03, 0.4));
    }
    pieces
}
