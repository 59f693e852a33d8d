//! Draws times over sizes with both axes logarithmic, where linear growth is a line of slope one.

use std::fmt::Write;

/// A measured time.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub workloads: f64,
    pub seconds: f64,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 50.0;
const PLOT_WIDTH: f64 = 600.0;
const PLOT_HEIGHT: f64 = 320.0;
const COLORS: [&str; 2] = ["#0b6e99", "#c2571a"];

/// Decades that the axes show: 1,000 to 100,000 workloads and a millisecond to ten seconds.
const SIZES: (f64, f64) = (3.0, 5.0);
const TIMES: (f64, f64) = (-3.0, 1.0);

fn x(workloads: f64) -> f64 {
    LEFT + PLOT_WIDTH * (workloads.log10() - SIZES.0) / (SIZES.1 - SIZES.0)
}

fn y(seconds: f64) -> f64 {
    TOP + PLOT_HEIGHT * (TIMES.1 - seconds.log10()) / (TIMES.1 - TIMES.0)
}

/// The plot as a document of its own.
pub fn svg(curves: &[(&str, Vec<Point>)], title: &str) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"16\">{title}</text>\n"
    );
    axes(&mut out);
    if let Some(first) = curves.first().and_then(|(_, points)| points.first()) {
        let at_the_end = first.seconds * 10_f64.powf(SIZES.1) / first.workloads;
        let _ = writeln!(
            out,
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#999\" stroke-dasharray=\"5 4\" fill=\"none\"/>",
            x(first.workloads),
            y(first.seconds),
            x(10_f64.powf(SIZES.1)),
            y(at_the_end)
        );
    }
    for ((label, points), color) in curves.iter().zip(COLORS) {
        curve(&mut out, points, color);
        let row = if color == COLORS[0] { 24.0 } else { 44.0 };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" fill=\"{color}\">{label}</text>",
            LEFT + 14.0,
            TOP + row
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" fill=\"#777\">dashed: linear growth</text>\n</svg>",
        LEFT + 14.0,
        TOP + 64.0
    );
    out
}

fn axes(out: &mut String) {
    for (size, label) in [(1e3, "1,000"), (1e4, "10,000"), (1e5, "100,000")] {
        let _ = writeln!(
            out,
            "<path d=\"M{0:.1} {TOP}V{1}\" stroke=\"#ddd\"/><text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\">{label}</text>",
            x(size),
            TOP + PLOT_HEIGHT,
            TOP + PLOT_HEIGHT + 20.0
        );
    }
    let times = [
        (1e-3, "1 ms"),
        (1e-2, "10 ms"),
        (1e-1, "100 ms"),
        (1.0, "1 s"),
        (10.0, "10 s"),
    ];
    for (time, label) in times {
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{label}</text>",
            y(time),
            LEFT + PLOT_WIDTH,
            LEFT - 8.0,
            y(time) + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">workloads, with a tenth as many GPUs</text>",
        LEFT + PLOT_WIDTH / 2.0,
        HEIGHT - 20.0
    );
}

fn curve(out: &mut String, points: &[Point], color: &str) {
    let mut path = String::new();
    for point in points {
        let command = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(
            path,
            "{command}{:.1} {:.1}",
            x(point.workloads),
            y(point.seconds)
        );
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{color}\"/>",
            x(point.workloads),
            y(point.seconds)
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"{path}\" stroke=\"{color}\" stroke-width=\"2\" fill=\"none\"/>"
    );
}
