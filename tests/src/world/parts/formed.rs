//! Bracket, elbow, plate and hook.

use super::{Piece, Point, Ring, arc, bar, circle, flat};
use crate::world::Random;
use rand::Rng;
use std::f32::consts::{FRAC_PI_2, PI, TAU};

/// Two flanges at a right angle, seen from a corner, with screw holes and sometimes a rib.
pub fn bracket(rng: &mut Random) -> Vec<Piece> {
    let width = rng.random_range(0.6..1.0);
    let (height, depth) = (rng.random_range(0.8..1.15), rng.random_range(0.8..1.15));
    let sheet = rng.random_range(0.07..0.11);
    let mirror = if rng.random_bool(0.5) { -1.0 } else { 1.0 };
    // Oblique view: x to the right and a little down, y to the left and down, z up.
    let at = |x: f32, y: f32, z: f32| [mirror * (0.85 * x - 0.62 * y), 0.34 * x + 0.5 * y - z];
    let quad = |corners: [(f32, f32, f32); 4]| -> Ring { corners.map(|(x, y, z)| at(x, y, z)).to_vec() };
    let holes = rng.random_range(1..=2);
    let hole = rng.random_range(0.1..0.14);
    let ellipse = |centre: (f32, f32), place: &dyn Fn(f32, f32) -> Point| -> Ring {
        (0..16)
            .map(|step| {
                let (sin, cos) = (TAU * step as f32 / 16.0).sin_cos();
                place(centre.0 + hole * cos, centre.1 + hole * sin)
            })
            .collect()
    };

    let mut wall = vec![quad([(0.0, 0.0, 0.0), (width, 0.0, 0.0), (width, 0.0, height), (0.0, 0.0, height)])];
    let mut floor = vec![quad([(0.0, 0.0, 0.0), (width, 0.0, 0.0), (width, depth, 0.0), (0.0, depth, 0.0)])];
    for index in 0..holes {
        let along = (index as f32 + 0.75) / (holes as f32 + 0.3);
        wall.push(ellipse((width / 2.0, along * height), &|x, z| at(x, 0.0, z)));
        floor.push(ellipse((width / 2.0, along * depth), &|x, y| at(x, y, 0.0)));
    }
    let mut pieces = vec![flat(wall, 0.0, 0.2), flat(floor, 0.3, 0.2)];
    // The sheet's cut edges: front of the floor, near side of both, top of the wall.
    let front = quad([(0.0, depth, 0.0), (width, depth, 0.0), (width, depth, -sheet), (0.0, depth, -sheet)]);
    let side = vec![
        at(width, -sheet, height),
        at(width, 0.0, height),
        at(width, 0.0, 0.0),
        at(width, depth, 0.0),
        at(width, depth, -sheet),
        at(width, -sheet, -sheet),
    ];
    let top = quad([(0.0, 0.0, height), (width, 0.0, height), (width, -sheet, height), (0.0, -sheet, height)]);
    pieces.extend([flat(vec![front], -0.35, 0.1), flat(vec![side], -0.5, 0.1), flat(vec![top], 0.45, 0.1)]);
    if rng.random_bool(0.35) {
        let reach = 0.5 * depth.min(height);
        let rib = [(0.0, 0.0, 0.0), (0.0, reach, 0.0), (0.0, 0.0, reach)].map(|(x, y, z)| at(x, y, z)).to_vec();
        pieces.push(flat(vec![rib], -0.2, 0.1));
    }
    pieces
}

/// A pipe through a quarter turn, with a collar at both ends and one open mouth.
pub fn elbow(rng: &mut Random) -> Vec<Piece> {
    let pipe = rng.random_range(0.24..0.34);
    let bend = pipe + rng.random_range(0.08..0.3);
    let straight = rng.random_range(0.15..0.4);
    let collar = pipe + rng.random_range(0.07..0.13);
    let collar_length = rng.random_range(0.1..0.18);
    // From the left mouth to the right, then around (0, bend) and down.
    let mut spine = vec![[-straight, 0.0]];
    spine.extend(arc([0.0, bend], bend, -FRAC_PI_2, 0.0, 12));
    spine.push([bend, bend + straight]);
    let mouth = [-straight, 0.0];
    let foot = [bend, bend + straight];
    let ellipse = |radius: f32| -> Ring {
        (0..20)
            .map(|step| {
                let (sin, cos) = (TAU * step as f32 / 20.0).sin_cos();
                [mouth[0] - collar_length + 0.3 * radius * cos, mouth[1] + radius * sin]
            })
            .collect()
    };
    let mut pieces = vec![
        bar(spine, pipe, 0.0),
        bar(vec![foot, [foot[0], foot[1] + collar_length]], collar, 0.05),
        bar(vec![[mouth[0] - collar_length, mouth[1]], mouth], collar, 0.05),
        flat(vec![ellipse(collar)], 0.2, 0.15),
        flat(vec![ellipse(pipe * 0.82)], -0.8, 0.1),
    ];
    if rng.random_bool(0.5) {
        let seams = [[[0.0, -pipe], [0.0, pipe]], [[bend - pipe, bend], [bend + pipe, bend]]];
        pieces.extend(seams.map(|seam| Piece::Line { points: seam.to_vec(), width: 0.03, tone: -0.5, closed: false }));
    }
    pieces
}

/// A sheet with a grid of holes.
pub fn plate(rng: &mut Random) -> Vec<Piece> {
    let half = [1.0, rng.random_range(0.6..1.0)];
    let columns = rng.random_range(4..=6);
    let rows = ((columns as f32 * half[1]).round() as u32).max(2);
    let pitch = [2.0 * half[0] / (columns as f32 + 0.4), 2.0 * half[1] / (rows as f32 + 0.4)];
    let hole = pitch[0].min(pitch[1]) * rng.random_range(0.27..0.36);
    let staggered = rng.random_bool(0.3);
    let mut rings = vec![rounded(half, rng.random_range(0.02..0.2))];
    for row in 0..rows {
        let shifted = staggered && row % 2 == 1;
        for column in 0..columns - u32::from(shifted) {
            let place = |index: f32, count: u32, pitch: f32| (index + 0.5 - count as f32 / 2.0) * pitch;
            let x = place(column as f32 + if shifted { 0.5 } else { 0.0 }, columns, pitch[0]);
            rings.push(circle([x, place(row as f32, rows, pitch[1])], hole));
        }
    }
    vec![Piece::Face { rings, tone: 0.0, contrast: 0.3, thickness: rng.random_range(0.06..0.14) }]
}

fn rounded(half: Point, corner: f32) -> Ring {
    let [x, y] = [half[0] - corner, half[1] - corner];
    let corners = [([x, y], 0.0), ([-x, y], FRAC_PI_2), ([-x, -y], PI), ([x, -y], PI + FRAC_PI_2)];
    corners.into_iter().flat_map(|(centre, from)| arc(centre, corner, from, from + FRAC_PI_2, 4)).collect()
}

/// Eye, neck and a tapering curve; sometimes a safety latch.
pub fn hook(rng: &mut Random) -> Vec<Piece> {
    let bar_radius = rng.random_range(0.12..0.17);
    let eye = rng.random_range(0.18..0.25);
    let curve = rng.random_range(0.36..0.46);
    let opening = rng.random_range(0.15..0.45);
    let mirror = if rng.random_bool(0.5) { -1.0 } else { 1.0 };
    let centre = [0.0, 0.45];
    // Neck from the eye down, over the shoulder to the side of the curve, around the bottom and up to the tip.
    let mut spine = vec![[0.0, -0.5], [0.0, -0.3], [0.08, -0.16], [0.2, -0.02]];
    spine.extend(arc(centre, curve, -0.85, PI - 0.05 + opening, 18));
    let tip = spine.len() - 1;
    let radii = (0..=tip)
        .map(|index| {
            let share = index as f32 / tip as f32;
            let swell = 1.0 + 0.35 * (PI * (share - 0.1).clamp(0.0, 1.0)).sin();
            bar_radius * swell * if share > 0.75 { 1.0 - 2.6 * (share - 0.75) } else { 1.0 }
        })
        .collect();
    let mirrored = |points: Vec<Point>| -> Vec<Point> { points.into_iter().map(|[x, y]| [mirror * x, y]).collect() };
    let eye_centre = [0.0, -0.5 - eye];
    let mut pieces = vec![
        Piece::Tube { spine: mirrored(spine), radii, tone: 0.0 },
        bar(arc(eye_centre, eye, FRAC_PI_2, FRAC_PI_2 + TAU, 20), bar_radius * 0.7, 0.05),
    ];
    if rng.random_bool(0.4) {
        let latch = mirrored(vec![[0.02, -0.12], [-0.9 * curve, 0.3]]);
        pieces.push(Piece::Line { points: latch, width: 0.07, tone: -0.3, closed: false });
    }
    pieces
}
