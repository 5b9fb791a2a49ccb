//! What a figure should be, and whether it is. The median counts.

use crate::spread::Spread;

pub(crate) fn at_least(bound: f64, what: &str, figure: &Spread) {
    let [_, median, _] = figure.range();
    report(median >= bound, &format!("at least {bound:.2}"), what, figure);
}

pub(crate) fn at_most(bound: f64, what: &str, figure: &Spread) {
    let [_, median, _] = figure.range();
    report(median <= bound, &format!("at most {bound:.2}"), what, figure);
}

fn report(met: bool, bound: &str, what: &str, figure: &Spread) {
    println!("  {}  {what}: {figure}, target {bound}", if met { "met   " } else { "MISSED" });
}
