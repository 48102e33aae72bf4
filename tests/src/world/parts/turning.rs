//! Gear, spring and bearing.

use super::{Piece, Point, Ring, arc, bar, circle, flat, polar, ring_line};
use crate::world::Random;
use rand::Rng;
use std::f32::consts::{PI, TAU};

/// Top view: teeth around a disc, bore with keyway, often a hub and lightening holes.
pub fn gear(rng: &mut Random) -> Vec<Piece> {
    let teeth = rng.random_range(11..=20);
    let root = 1.0 - rng.random_range(0.17..0.24);
    let bore = rng.random_range(0.16..0.26);
    let mut rings = vec![toothed(teeth, root), keyed(bore)];
    let holes = [0, 0, 3, 4, 5, 6][rng.random_range(0..6)];
    let hole = rng.random_range(0.11..0.15);
    for index in 0..holes {
        rings.push(circle(polar([0.0; 2], 0.5, TAU * index as f32 / holes as f32), hole));
    }
    let mut pieces = vec![Piece::Face { rings, tone: 0.0, contrast: 0.3, thickness: rng.random_range(0.15..0.35) }];
    pieces.push(ring_line(bore + 0.1, 0.04, -0.35));
    if rng.random_bool(0.6) {
        pieces.push(ring_line(root - 0.08, 0.035, -0.3));
    }
    pieces
}

fn toothed(teeth: u32, root: f32) -> Ring {
    let step = TAU / teeth as f32;
    let corners = [(0.02, root), (0.14, 1.0), (0.40, 1.0), (0.52, root), (0.76, root)];
    (0..teeth)
        .flat_map(|tooth| corners.map(|(share, radius)| polar([0.0; 2], radius, (tooth as f32 + share) * step)))
        .collect()
}

/// A bore with a square notch.
fn keyed(bore: f32) -> Ring {
    let half = 0.3;
    let mut ring: Ring = arc([0.0; 2], bore, half, TAU - half, 22);
    ring.push([bore * 1.35, -bore * half.sin()]);
    ring.push([bore * 1.35, bore * half.sin()]);
    ring
}

/// Side view: the far half of every turn, then the near halves over them.
pub fn spring(rng: &mut Random) -> Vec<Piece> {
    let turns = rng.random_range(5..=8);
    let radius = rng.random_range(0.36..0.5);
    let pitch = 1.8 / turns as f32;
    let wire = pitch * rng.random_range(0.26..0.36);
    let bulge = rng.random_range(0.05..0.12);
    let strand = |turn: u32, from: f32, tone: f32| -> Piece {
        let steps = 10;
        let spine: Vec<Point> = (0..=steps)
            .map(|step| {
                let angle = from + PI * step as f32 / steps as f32;
                [-radius * angle.cos(), -0.9 + pitch * (turn as f32 + angle / TAU) + bulge * angle.sin()]
            })
            .collect();
        bar(spine, wire, tone)
    };
    let far = (0..turns).map(|turn| strand(turn, PI, -0.4));
    let near = (0..turns).map(|turn| strand(turn, 0.0, 0.05));
    far.chain(near).collect()
}

/// Top view: outer ring, balls in a dark groove, inner ring.
pub fn bearing(rng: &mut Random) -> Vec<Piece> {
    let outer = rng.random_range(0.78..0.84);
    let inner = rng.random_range(0.46..0.52);
    let bore = inner - rng.random_range(0.14..0.2);
    let track = (outer + inner) / 2.0;
    let radius = (outer - inner) / 2.0 * 0.95;
    let most = (TAU * track / (2.15 * radius)) as u32;
    let balls = rng.random_range((most * 2 / 3)..=most);
    let annulus = |large: f32, small: f32| vec![circle([0.0; 2], large), circle([0.0; 2], small)];
    let thickness = rng.random_range(0.25..0.45);
    let mut pieces = vec![
        Piece::Face { rings: annulus(1.0, bore), tone: 0.05, contrast: 0.35, thickness },
        flat(annulus(outer, inner), -0.75, 0.1),
    ];
    let turn = rng.random_range(0.0..TAU);
    for ball in 0..balls {
        let centre = polar([0.0; 2], track, turn + TAU * ball as f32 / balls as f32);
        pieces.push(Piece::Ball { centre, radius, tone: 0.1 });
    }
    pieces
}
