//! The matrix, for a terminal.

use selvedge_explain::Matrix;
use selvedge_explain::matrix::Cell;

use super::Measured;
use crate::status::printable;
use crate::table::columns;

/// A row for each pod that sends, a numbered column for each that receives, and what the marks mean.
pub(super) fn text(about: &str, matrix: &Matrix, measured: &Measured) -> String {
    let probed = measured.iter().flatten().any(Option::is_some);
    let number = |at: usize| (at + 1).to_string();
    let heading = [String::new(), about.to_owned()].into_iter().chain((0..matrix.pods.len()).map(number));
    let mut rows = vec![heading.collect::<Vec<_>>()];
    for (at, (row, seen)) in matrix.rows.iter().zip(measured).enumerate() {
        let marks = row.iter().zip(seen).map(|(cell, seen)| mark(cell, *seen, probed).to_owned());
        rows.push([number(at), printable(&matrix.pods[at].name)].into_iter().chain(marks).collect());
    }
    let count = super::differences(matrix, measured).len();
    columns(&rows) + &legend(probed, matrix, measured, count)
}

/// How a pair stands.
fn mark(cell: &Cell, seen: Option<bool>, probed: bool) -> &'static str {
    match (cell.address, cell.allowed, seen) {
        (None, ..) => "·",
        (_, true, Some(false)) => "X",
        (_, false, Some(true)) => "O",
        (_, true, None) if probed => "+?",
        (_, false, None) if probed => "-?",
        (_, true, _) => "+",
        (_, false, _) => "-",
    }
}

fn legend(probed: bool, matrix: &Matrix, measured: &Measured, differences: usize) -> String {
    let mut legend = "+ allowed   - denied".to_owned();
    if matrix.rows.iter().flatten().any(|cell| cell.address.is_none()) {
        legend.push_str("   · no addresses of one family");
    }
    if !probed {
        return legend + "\n";
    }
    legend.push_str("   X allowed, but packets don't arrive   O denied, but packets arrive");
    let silent = matrix.rows.iter().zip(measured).flat_map(|(row, seen)| row.iter().zip(seen));
    if silent.filter(|(cell, _)| cell.address.is_some()).any(|(_, seen)| seen.is_none()) {
        legend.push_str("   ? not tried from here: the pod is on another node");
    }
    let tried = measured.iter().flatten().filter(|seen| seen.is_some()).count();
    legend + &format!("\n{} of {tried} pairs that were tried are as desired\n", tried - differences)
}

#[cfg(test)]
mod tests {
    use selvedge_explain::matrix::Member;

    use super::*;

    fn matrix(allowed: &[&[Option<bool>]]) -> Matrix {
        let address = "10.0.0.1".parse().ok();
        let cell = |allowed: &Option<bool>| Cell {
            address: allowed.and(address),
            allowed: allowed.unwrap_or_default(),
        };
        let member =
            |number: usize| Member { name: format!("x/{number}"), node: None, addresses: Vec::new() };
        Matrix {
            node: "node-a".to_owned(),
            pods: (0..allowed.len()).map(member).collect(),
            rows: allowed.iter().map(|row| row.iter().map(cell).collect()).collect(),
        }
    }

    #[test]
    fn what_is_desired_and_what_differs_is_marked() {
        let (yes, no) = (Some(true), Some(false));
        let matrix = matrix(&[&[yes, no, yes], &[no, yes, None], &[yes, no, yes]]);
        let nothing = vec![vec![None; 3]; 3];
        assert_eq!(
            text("TCP/80", &matrix, &nothing),
            "   TCP/80  1  2  3
1  x/0     +  -  +
2  x/1     -  +  ·
3  x/2     +  -  +
+ allowed   - denied   · no addresses of one family
"
        );
        let seen = vec![vec![yes, yes, no], vec![no, yes, None], vec![None; 3]];
        assert_eq!(
            text("TCP/80", &matrix, &seen),
            "   TCP/80  1   2   3
1  x/0     +   O   X
2  x/1     -   +   ·
3  x/2     +?  -?  +?
+ allowed   - denied   · no addresses of one family   X allowed, but packets don't arrive   O denied, but packets \
arrive   ? not tried from here: the pod is on another node
3 of 5 pairs that were tried are as desired
"
        );
    }
}
