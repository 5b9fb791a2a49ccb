//! Lines over numbers, as a picture in SVG. It has a ground of its own, so that it is legible on any page, and is dark where
//! the reader's system is.

use std::fmt::{Display, Write};

/// One diagram; several stand side by side.
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What is counted along the bottom.
    pub(crate) across: String,
    /// What is measured upwards, and in which unit.
    pub(crate) up: String,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    pub(crate) name: String,
    /// Of an ideal, which nobody has measured.
    pub(crate) dashed: bool,
    pub(crate) points: Vec<Point>,
}

pub(crate) struct Point {
    pub(crate) x: f64,
    /// The lowest, the median and the highest.
    pub(crate) y: [f64; 3],
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 430.0;
/// The edges of the plot within a chart.
const LEFT: f64 = 66.0;
const RIGHT: f64 = WIDTH - 22.0;
const TOP: f64 = 112.0;
const BOTTOM: f64 = HEIGHT - 58.0;

/// Colours that people with any colour vision tell apart, on a light and on a dark ground.
const COLOURS: [(&str, &str); 3] = [("#0067a5", "#5ab4f0"), ("#c24e00", "#f0a04b"), ("#007a5a", "#3ecfa3")];

pub(crate) fn svg(charts: &[Chart]) -> String {
    let width = WIDTH * charts.len() as f64;
    let mut svg = String::new();
    put(
        &mut svg,
        format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" role="img">"#
        ),
    );
    put(
        &mut svg,
        format_args!(
            "<style>\n{}@media (prefers-color-scheme: dark) {{\n{}}}\n</style>",
            style(false),
            style(true)
        ),
    );
    put(&mut svg, format_args!(r#"<rect class="ground" width="{width}" height="{HEIGHT}" rx="8"/>"#));
    for (i, chart) in charts.iter().enumerate() {
        put(&mut svg, format_args!(r#"<g transform="translate({} 0)">"#, WIDTH * i as f64));
        chart.draw(&mut svg);
        put(&mut svg, "</g>");
    }
    put(&mut svg, "</svg>");
    svg
}

fn style(dark: bool) -> String {
    let (ground, text, grid) =
        if dark { ("#161b22", "#e6edf3", "#30363d") } else { ("#ffffff", "#1f2328", "#d8dee4") };
    let mut style = format!(
        "text {{ fill: {text}; font: 13px system-ui, sans-serif }}\n.title {{ font-weight: 600; font-size: 15px }}\n\
         .ground {{ fill: {ground} }}\n.grid {{ stroke: {grid} }}\n.axis {{ stroke: {text} }}\n\
         .line {{ fill: none; stroke-width: 2 }}\n"
    );
    for (i, (light, on_dark)) in COLOURS.into_iter().enumerate() {
        let colour = if dark { on_dark } else { light };
        put(&mut style, format_args!(".c{i} {{ stroke: {colour} }}\n.f{i} {{ fill: {colour} }}"));
    }
    style
}

impl Chart {
    fn draw(&self, svg: &mut String) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let right = points().map(|point| point.x).fold(0.0, f64::max);
        let step = step(points().map(|point| point.y[2]).fold(0.0, f64::max));
        let steps = (points().map(|point| point.y[2]).fold(0.0, f64::max) / step).ceil();
        let x = |value: f64| LEFT + 14.0 + (RIGHT - LEFT - 28.0) * value / right;
        let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / (step * steps);

        text(svg, "title", "start", 18.0, 28.0, &self.title);
        for i in 0..=steps as u32 {
            let (value, at) = (f64::from(i) * step, y(f64::from(i) * step));
            put(
                svg,
                format_args!(
                    r#"<path class="{}" d="M{LEFT} {at:.1}H{RIGHT}"/>"#,
                    if i == 0 { "axis" } else { "grid" }
                ),
            );
            text(svg, "", "end", LEFT - 8.0, at + 4.5, value);
        }
        let mut across: Vec<f64> = points().map(|point| point.x).collect();
        across.sort_by(f64::total_cmp);
        across.dedup();
        for value in across {
            put(svg, format_args!(r#"<path class="axis" d="M{:.1} {BOTTOM}v5"/>"#, x(value)));
            text(svg, "", "middle", x(value), BOTTOM + 21.0, value);
        }
        text(svg, "", "middle", (LEFT + RIGHT) / 2.0, HEIGHT - 14.0, &self.across);
        let middle = (TOP + BOTTOM) / 2.0;
        put(
            svg,
            format_args!(
                r#"<text text-anchor="middle" transform="translate(18 {middle:.1}) rotate(-90)">{}</text>"#,
                self.up
            ),
        );

        let mut colour = 0;
        for (i, line) in self.lines.iter().enumerate() {
            let legend = 46.0 + 19.0 * i as f64;
            let class = if line.dashed {
                r#"line axis" stroke-dasharray="5 5"#.to_owned()
            } else {
                format!("line c{colour}")
            };
            put(svg, format_args!(r#"<path class="{class}" d="M18 {legend}h26"/>"#));
            text(svg, "", "start", 52.0, legend + 4.5, &line.name);
            let way: Vec<String> =
                line.points.iter().map(|point| format!("{:.1} {:.1}", x(point.x), y(point.y[1]))).collect();
            put(svg, format_args!(r#"<path class="{class}" d="M{}"/>"#, way.join("L")));
            if line.dashed {
                continue;
            }
            for point in &line.points {
                let (at, [low, median, high]) = (x(point.x), point.y.map(y));
                // Bars stand side by side.
                let bar = at + 4.0 * (colour as f64 - 1.0);
                put(svg, format_args!(r#"<path class="line c{colour}" d="M{bar:.1} {low:.1}V{high:.1}"/>"#));
                put(svg, format_args!(r#"<circle class="f{colour}" cx="{at:.1}" cy="{median:.1}" r="4"/>"#));
            }
            colour += 1;
        }
    }
}

/// From one label to the next, so that there are four to ten of them.
fn step(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 4.0).log10().floor());
    [5.0, 2.0].map(|times| times * power).into_iter().find(|step| step * 4.0 <= highest).unwrap_or(power)
}

fn text(svg: &mut String, class: &str, anchor: &str, x: f64, y: f64, what: impl Display) {
    put(
        svg,
        format_args!(r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{what}</text>"#),
    );
}

fn put(svg: &mut String, what: impl Display) {
    // Writing to a string does not fail.
    let _ = writeln!(svg, "{what}");
}
