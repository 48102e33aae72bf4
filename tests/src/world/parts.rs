//! The shapes of the parts, with variations in counts, proportions and details. This module knows no position, colour
//! or light.
//!
//! A part is a list of pieces in its own plane, with y downwards, inside the unit circle.

mod fasteners;
mod formed;
mod turning;

use super::{PARTS, Random};
use std::f32::consts::TAU;

pub type Point = [f32; 2];
/// A closed outline.
pub type Ring = Vec<Point>;

/// A shape that is drawn in one step. `tone` is its brightness, −1 to 1, relative to the finish's own.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A flat surface; holes follow the even-odd rule. `contrast` is the range of its shading; `thickness` is visible
    /// where the face is tilted.
    Face {
        rings: Vec<Ring>,
        tone: f32,
        contrast: f32,
        thickness: f32,
    },
    /// A round bar along a spine, with a radius at each point.
    Tube {
        spine: Vec<Point>,
        radii: Vec<f32>,
        tone: f32,
    },
    Line {
        points: Vec<Point>,
        width: f32,
        tone: f32,
        closed: bool,
    },
    Ball {
        centre: Point,
        radius: f32,
        tone: f32,
    },
}

impl Piece {
    /// How far the piece extends behind its face.
    pub fn thickness(&self) -> f32 {
        match self {
            Piece::Face { thickness, .. } => *thickness,
            _ => 0.0,
        }
    }
}

/// Makes the shape of a part of [`PARTS`].
pub fn build(part: usize, rng: &mut Random) -> Vec<Piece> {
    let pieces = match PARTS[part] {
        "hex bolt" => fasteners::bolt(rng),
        "hex nut" => fasteners::nut(rng),
        "flat washer" => fasteners::washer(rng),
        "spur gear" => turning::gear(rng),
        "coil spring" => turning::spring(rng),
        "ball bearing" => turning::bearing(rng),
        "corner bracket" => formed::bracket(rng),
        "pipe elbow" => formed::elbow(rng),
        "perforated plate" => formed::plate(rng),
        "lifting hook" => formed::hook(rng),
        other => unreachable!("{other} has no shape"),
    };
    fitted(pieces)
}

/// Moves and scales pieces so that they exactly fill the unit circle around the centre of their bounding box.
fn fitted(mut pieces: Vec<Piece>) -> Vec<Piece> {
    let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
    each_point(&mut pieces, |point, reach| {
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis] - reach);
            high[axis] = high[axis].max(point[axis] + reach);
        }
    });
    let middle = [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0];
    let mut radius = 0.0f32;
    each_point(&mut pieces, |point, reach| {
        radius = radius.max((point[0] - middle[0]).hypot(point[1] - middle[1]) + reach);
    });
    let scale = 1.0 / radius;
    each_point(&mut pieces, |point, _| *point = [(point[0] - middle[0]) * scale, (point[1] - middle[1]) * scale]);
    for piece in &mut pieces {
        match piece {
            Piece::Face { thickness, .. } => *thickness *= scale,
            Piece::Tube { radii, .. } => radii.iter_mut().for_each(|radius| *radius *= scale),
            Piece::Line { width, .. } => *width *= scale,
            Piece::Ball { radius, .. } => *radius *= scale,
        }
    }
    pieces
}

/// Calls `visit` with every point, and with how far its piece extends around it.
fn each_point(pieces: &mut [Piece], mut visit: impl FnMut(&mut Point, f32)) {
    for piece in pieces {
        match piece {
            Piece::Face { rings, .. } => rings.iter_mut().flatten().for_each(|point| visit(point, 0.0)),
            Piece::Tube { spine, radii, .. } => {
                spine.iter_mut().zip(radii).for_each(|(point, radius)| visit(point, *radius));
            }
            Piece::Line { points, width, .. } => points.iter_mut().for_each(|point| visit(point, *width / 2.0)),
            Piece::Ball { centre, radius, .. } => visit(centre, *radius),
        }
    }
}

fn polar(centre: Point, radius: f32, angle: f32) -> Point {
    let (sin, cos) = angle.sin_cos();
    [centre[0] + radius * cos, centre[1] + radius * sin]
}

/// A regular polygon; many corners make a circle.
fn polygon(centre: Point, radius: f32, corners: u32) -> Ring {
    (0..corners).map(|corner| polar(centre, radius, TAU * corner as f32 / corners as f32)).collect()
}

fn circle(centre: Point, radius: f32) -> Ring {
    polygon(centre, radius, if radius < 0.25 { 14 } else { 36 })
}

/// Points of an arc, ends included, angles in rad.
fn arc(centre: Point, radius: f32, from: f32, to: f32, steps: u32) -> Vec<Point> {
    (0..=steps).map(|step| polar(centre, radius, from + (to - from) * step as f32 / steps as f32)).collect()
}

fn bar(spine: Vec<Point>, radius: f32, tone: f32) -> Piece {
    let radii = vec![radius; spine.len()];
    Piece::Tube { spine, radii, tone }
}

fn flat(rings: Vec<Ring>, tone: f32, contrast: f32) -> Piece {
    Piece::Face { rings, tone, contrast, thickness: 0.0 }
}

fn ring_line(radius: f32, width: f32, tone: f32) -> Piece {
    Piece::Line { points: circle([0.0; 2], radius), width, tone, closed: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::random;

    #[test]
    fn every_shape_fills_the_unit_circle_and_no_more() {
        for (part, name) in PARTS.iter().enumerate() {
            for stream in 0..50 {
                let mut pieces = build(part, &mut random(1, stream));
                let mut reach = 0.0f32;
                each_point(&mut pieces, |point, around| reach = reach.max(point[0].hypot(point[1]) + around));
                assert!((reach - 1.0).abs() < 1e-3, "{name} {stream} reaches {reach}");
            }
        }
    }
}
