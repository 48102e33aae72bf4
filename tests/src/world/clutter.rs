//! Other objects in view of an inspection camera: scraps, swarf, cables, the edge of a machine.

use super::canvas::{Canvas, View};
use super::finish::Finish;
use super::parts::{Piece, Point};
use rand::Rng;
use std::f32::consts::TAU;

/// Draws a scrap near the border: an offcut or a curl of swarf. `size` is relative to half the short side.
pub fn scrap(canvas: &mut Canvas, frame: (u32, u32), size: f32, rng: &mut impl Rng) {
    let angle = rng.random_range(0.0..TAU);
    let distance = rng.random_range(0.75..1.1);
    let middle = [distance * angle.cos(), distance * angle.sin()];
    let around = |radius: f32, angle: f32| [middle[0] + radius * angle.cos(), middle[1] + radius * angle.sin()];
    let piece = if rng.random_bool(0.5) {
        let corners = rng.random_range(3..=5);
        let turn = rng.random_range(0.0..TAU);
        let ring = (0..corners)
            .map(|corner| around(size * rng.random_range(0.5..1.0), turn + TAU * corner as f32 / corners as f32))
            .collect();
        Piece::Face { rings: vec![ring], tone: 0.0, contrast: 0.3, thickness: 0.0 }
    } else {
        let turns = rng.random_range(3.0..9.0);
        let spine: Vec<Point> =
            (0..=14).map(|i| around(size * (0.3 + 0.05 * i as f32), turns * i as f32 / 14.0)).collect();
        let radii = vec![0.1 * size; spine.len()];
        Piece::Tube { spine, radii, tone: 0.0 }
    };
    let grey = rng.random_range(0.2..0.6);
    canvas.draw(&[piece], &view(frame, Finish::plain([grey, grey, grey * 1.05]), rng));
}

/// Draws a cable from border to border at a distance from the middle; `width` is relative to half the short side.
pub fn cable(canvas: &mut Canvas, frame: (u32, u32), distance: f32, width: f32, rng: &mut impl Rng) {
    let angle = rng.random_range(0.0..TAU);
    let (sin, cos) = angle.sin_cos();
    let (bend, phase) = (rng.random_range(0.0..0.2), rng.random_range(0.0..TAU));
    let spine: Vec<Point> = (0..=20)
        .map(|step| {
            let along = -2.4 + 0.24 * step as f32;
            let across = distance + bend * (1.5 * along + phase).sin();
            [along * cos - across * sin, along * sin + across * cos]
        })
        .collect();
    let radii = vec![width / 2.0; spine.len()];
    let colours = [[0.1, 0.1, 0.11], [0.45, 0.1, 0.08], [0.16, 0.2, 0.35], [0.5, 0.5, 0.48]];
    let finish = Finish::plain(colours[rng.random_range(0..colours.len())]);
    canvas.draw(&[Piece::Tube { spine, radii, tone: 0.0 }], &view(frame, finish, rng));
}

/// Draws the edge of an object in the foreground: it covers the frame beyond a line at `distance` from the middle.
pub fn edge(canvas: &mut Canvas, frame: (u32, u32), distance: f32, rng: &mut impl Rng) {
    let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
    let at = |along: f32, across: f32| [along * cos - across * sin, along * sin + across * cos];
    let ring = vec![at(-3.0, distance), at(3.0, distance), at(3.0, 3.0), at(-3.0, 3.0)];
    let grey = rng.random_range(0.1..0.5);
    let finish = Finish::plain([grey, grey, grey]);
    let piece = Piece::Face { rings: vec![ring], tone: 0.0, contrast: 0.1, thickness: 0.0 };
    canvas.draw(&[piece], &view(frame, finish, rng));
}

/// A view whose positions are relative to the frame's middle and half its short side.
fn view((width, height): (u32, u32), finish: Finish, rng: &mut impl Rng) -> View {
    let half = width.min(height) as f32 / 2.0;
    let (sin, cos) = rng.random_range(-2.6f32..-0.5).sin_cos();
    View {
        linear: [[half, 0.0], [0.0, half]],
        centre: [width as f32 / 2.0, height as f32 / 2.0],
        scale: half,
        depth: [0.0; 2],
        light: [cos, sin],
        shadow: 0.3,
        finish,
    }
}
