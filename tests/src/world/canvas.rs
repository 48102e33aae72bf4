//! Antialiased drawing of shaded pieces. This module knows light and metal, but not parts.

use super::background::Background;
use super::finish::Finish;
use super::parts::{Piece, Point, Ring};
use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Path, PathBuilder, Pixmap,
    PremultipliedColorU8, RadialGradient, Shader, SpreadMode, Stroke, Transform,
};

/// Position and appearance of pieces in the frame.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Matrix that rotates, foreshortens and scales the pieces' plane to px, row by row.
    pub linear: [[f32; 2]; 2],
    /// Position of the pieces' origin, px.
    pub centre: Point,
    /// Number of px in a unit of the pieces.
    pub scale: f32,
    /// Offset behind a face for one unit of thickness, px.
    pub depth: Point,
    /// Unit vector towards the light, in the frame.
    pub light: Point,
    /// Darkness of the shadow; 0 to 1.
    pub shadow: f32,
    pub finish: Finish,
}

impl View {
    fn place(&self, [x, y]: Point) -> Point {
        let [[a, b], [c, d]] = self.linear;
        [self.centre[0] + a * x + b * y, self.centre[1] + c * x + d * y]
    }

    /// Unit vector in the frame for a direction in the pieces' plane.
    fn direction(&self, [x, y]: Point) -> Point {
        let [[a, b], [c, d]] = self.linear;
        unit([a * x + b * y, c * x + d * y])
    }
}

pub struct Canvas {
    pixmap: Pixmap,
}

impl Canvas {
    /// A frame with only the background.
    pub fn new(width: u32, height: u32, background: &Background) -> Self {
        let mut pixmap = Pixmap::new(width, height).expect("a frame has pixels");
        let unit = 2.0 / width.min(height) as f32;
        let (left, top) = (width as f32 / 2.0, height as f32 / 2.0);
        for (index, pixel) in pixmap.pixels_mut().iter_mut().enumerate() {
            let (x, y) = (index as u32 % width, index as u32 / width);
            let colour = background.at((x as f32 + 0.5 - left) * unit, (y as f32 + 0.5 - top) * unit);
            let [red, green, blue] = colour.map(|channel| (channel * 255.0 + 0.5) as u8);
            *pixel = PremultipliedColorU8::from_rgba(red, green, blue, 255).expect("an opaque colour is valid");
        }
        Self { pixmap }
    }

    /// Draws the shadow of the pieces, then the pieces in order.
    pub fn draw(&mut self, pieces: &[Piece], view: &View) {
        for reach in [0.05, 0.09, 0.13] {
            let shift = [-view.light[0] * reach * view.scale, -view.light[1] * reach * view.scale];
            for piece in pieces {
                let outlines = match piece {
                    Piece::Face { rings, .. } => rings.clone(),
                    Piece::Tube { spine, radii, .. } => vec![strip(spine, radii, |_| (-1.0, 1.0))],
                    Piece::Line { .. } | Piece::Ball { .. } => continue,
                };
                let paint = solid([0.0; 3], view.shadow / 3.0);
                self.fill(&placed(&outlines, view, shift), &paint, FillRule::EvenOdd);
            }
        }
        for piece in pieces {
            match piece {
                Piece::Face { rings, tone, contrast, thickness } => {
                    self.face(rings, *tone, *contrast, *thickness, view);
                }
                Piece::Tube { spine, radii, tone } => self.tube(spine, radii, *tone, view),
                Piece::Line { points, width, tone, closed } => {
                    let path = path(points.iter().map(|&point| view.place(point)), *closed);
                    self.stroke(&path, width * view.scale, &solid(view.finish.shade(*tone), 1.0));
                }
                Piece::Ball { centre, radius, tone } => self.ball(*centre, *radius, *tone, view),
            }
        }
    }

    /// RGB values, row by row, 0 to 1.
    pub fn into_values(self) -> Vec<f32> {
        let bytes = self.pixmap.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]);
        bytes.map(|byte| f32::from(byte) / 255.0).collect()
    }

    fn face(&mut self, rings: &[Ring], tone: f32, contrast: f32, thickness: f32, view: &View) {
        let finish = &view.finish;
        let depth = [view.depth[0] * thickness, view.depth[1] * thickness];
        let slices = depth[0].hypot(depth[1]).ceil() as u32;
        // The edge of a thick face, from back to front; lighter on the side that faces the light.
        let lit = view.light[0] * depth[0] + view.light[1] * depth[1];
        let side = solid(finish.shade(tone - 0.42 + 0.18 * lit.signum()), 1.0);
        for slice in (1..=slices).rev() {
            let share = slice as f32 / slices as f32;
            let outline = placed(rings, view, [depth[0] * share, depth[1] * share]);
            self.fill(&outline, &side, FillRule::EvenOdd);
        }
        let Some(front) = placed(rings, view, [0.0; 2]) else { return };
        let bounds = front.bounds();
        let centre = [(bounds.left() + bounds.right()) / 2.0, (bounds.top() + bounds.bottom()) / 2.0];
        let reach = bounds.width().hypot(bounds.height()) / 2.0;
        let stops = [(0.0, contrast), (0.38, 0.2 * contrast), (0.5, 0.75 * contrast), (0.62, 0.0), (1.0, -contrast)];
        let stops = stops.map(|(at, change)| GradientStop::new(at, colour(finish.shade(tone + change), 1.0)));
        let at =
            |sign: f32| point([centre[0] + sign * view.light[0] * reach, centre[1] + sign * view.light[1] * reach]);
        let shader = LinearGradient::new(at(1.0), at(-1.0), stops.to_vec(), SpreadMode::Pad, Transform::identity());
        let front = Some(front);
        self.fill(&front, &shaded(shader, finish.shade(tone)), FillRule::EvenOdd);
        self.stroke(&front, 0.022 * view.scale, &solid(finish.shade(tone - 0.5), 0.8));
    }

    fn tube(&mut self, spine: &[Point], radii: &[f32], tone: f32, view: &View) {
        // Bands along the tube from its dark rim to its highlight: the offset of each towards the light, half its
        // width, and its tone.
        let bands = [(0.0, 1.0, -0.5), (0.16, 0.78, -0.08), (0.36, 0.44, 0.25), (0.46, 0.14, 0.75)];
        for (towards, half, change) in bands {
            let band = strip(spine, radii, |normal| {
                let normal = view.direction(normal);
                let middle = towards * (normal[0] * view.light[0] + normal[1] * view.light[1]);
                (middle - half, middle + half)
            });
            let paint = solid(view.finish.shade(tone + change), 1.0);
            self.fill(&placed(&[band], view, [0.0; 2]), &paint, FillRule::Winding);
        }
    }

    fn ball(&mut self, centre: Point, radius: f32, tone: f32, view: &View) {
        let [x, y] = view.place(centre);
        let radius = radius * view.scale;
        let Some(circle) = PathBuilder::from_circle(x, y, radius) else { return };
        let finish = &view.finish;
        let spot = point([x + 0.4 * radius * view.light[0], y + 0.4 * radius * view.light[1]]);
        let stops = [(0.0, 0.85), (0.35, 0.25), (1.0, -0.6)]
            .map(|(at, change)| GradientStop::new(at, colour(finish.shade(tone + change), 1.0)));
        let shader =
            RadialGradient::new(spot, 0.0, spot, 1.4 * radius, stops.to_vec(), SpreadMode::Pad, Transform::identity());
        self.fill(&Some(circle), &shaded(shader, finish.shade(tone)), FillRule::Winding);
    }

    fn fill(&mut self, path: &Option<Path>, paint: &Paint, rule: FillRule) {
        if let Some(path) = path {
            self.pixmap.fill_path(path, paint, rule, Transform::identity(), None);
        }
    }

    fn stroke(&mut self, path: &Option<Path>, width: f32, paint: &Paint) {
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        if let Some(path) = path {
            self.pixmap.stroke_path(path, paint, &stroke, Transform::identity(), None);
        }
    }
}

/// The outline of a band along a spine. `sides` returns its two edges across the spine, in radii, for the normal at a
/// point.
fn strip(spine: &[Point], radii: &[f32], sides: impl Fn(Point) -> (f32, f32)) -> Ring {
    let last = spine.len() - 1;
    let mut left = Vec::with_capacity(2 * spine.len());
    let mut right = Vec::with_capacity(spine.len());
    for (index, (&[x, y], &radius)) in spine.iter().zip(radii).enumerate() {
        let (before, after) = (spine[index.saturating_sub(1)], spine[(index + 1).min(last)]);
        let [along_x, along_y] = unit([after[0] - before[0], after[1] - before[1]]);
        let normal = [-along_y, along_x];
        let (from, to) = sides(normal);
        left.push([x + from * radius * normal[0], y + from * radius * normal[1]]);
        right.push([x + to * radius * normal[0], y + to * radius * normal[1]]);
    }
    left.extend(right.into_iter().rev());
    left
}

fn placed(rings: &[Ring], view: &View, shift: Point) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for ring in rings {
        push(
            &mut builder,
            ring.iter().map(|&point| view.place(point)).map(|[x, y]| [x + shift[0], y + shift[1]]),
            true,
        );
    }
    builder.finish()
}

fn path(points: impl Iterator<Item = Point>, closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    push(&mut builder, points, closed);
    builder.finish()
}

fn push(builder: &mut PathBuilder, points: impl Iterator<Item = Point>, closed: bool) {
    for (index, [x, y]) in points.enumerate() {
        if index == 0 {
            builder.move_to(x, y);
        } else {
            builder.line_to(x, y);
        }
    }
    if closed {
        builder.close();
    }
}

fn unit([x, y]: Point) -> Point {
    let length = x.hypot(y).max(1e-6);
    [x / length, y / length]
}

fn point([x, y]: Point) -> tiny_skia::Point {
    tiny_skia::Point::from_xy(x, y)
}

fn colour([red, green, blue]: [f32; 3], alpha: f32) -> Color {
    Color::from_rgba(red, green, blue, alpha).expect("channels lie between 0 and 1")
}

fn solid(rgb: [f32; 3], alpha: f32) -> Paint<'static> {
    Paint { shader: Shader::SolidColor(colour(rgb, alpha)), anti_alias: true, ..Paint::default() }
}

/// The gradient, or its middle colour where the shape is too small for a gradient.
fn shaded(gradient: Option<Shader<'static>>, otherwise: [f32; 3]) -> Paint<'static> {
    gradient.map_or_else(|| solid(otherwise, 1.0), |shader| Paint { shader, anti_alias: true, ..Paint::default() })
}
