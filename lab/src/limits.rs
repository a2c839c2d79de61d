//! What is too much for one machine, said before it is tried.

use std::fs;

use crate::path;
use crate::shape::Shape;

/// The most paths that are probed: a few minutes' work, and a matrix of a few hundred megabytes.
const MOST_PATHS: usize = 200_000;

/// A lab has more paths than can be probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a lab of this many pods has {paths} paths, more than the {MOST_PATHS} that are probed: take fewer pods"
)]
pub struct TooManyPaths {
    /// How many it has.
    paths: usize,
}

/// Whether every path of a lab can be probed.
///
/// # Errors
/// [`TooManyPaths`].
pub fn probeable(shape: &Shape) -> Result<(), TooManyPaths> {
    let paths = path::count(shape);
    if paths > MOST_PATHS { Err(TooManyPaths { paths }) } else { Ok(()) }
}

/// A warning if a lab has more neighbours than the kernel keeps: its table is one for all namespaces of the machine.
pub fn too_many_neighbours(shape: &Shape) -> Option<String> {
    let file = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
    let room = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    neighbour_warning(shape, room)
}

fn neighbour_warning(shape: &Shape, room: usize) -> Option<String> {
    let (nodes, pods) = (usize::from(shape.nodes.get()), usize::from(shape.pods.get()));
    // Every node knows every other and the router, and the router it; every pod its node, and the node the pod.
    // Those that are known for good, on overlays, don't count.
    let needed = nodes * (nodes + 1) + 2 * nodes * pods;
    (needed > room).then(|| {
        format!(
            "this lab needs {needed} neighbour entries in each IP family and this machine keeps {room}, so paths may \
             fail; as root, type `sysctl -w net.ipv4.neigh.default.gc_thresh3={0} net.ipv6.neigh.default.gc_thresh3={0}`",
            2 * needed
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::shape::{Attach, Count, FamilyChoice};

    use super::*;

    fn shape(nodes: u8, pods: u8) -> Shape {
        let (nodes, pods) = (Count::new(nodes).unwrap(), Count::new(pods).unwrap());
        Shape::new(nodes, pods, Attach::Routed, FamilyChoice::Dual)
    }

    #[test]
    fn a_lab_with_too_many_paths_is_refused_by_their_number() {
        assert_eq!(probeable(&shape(3, 2)), Ok(()));
        let error = probeable(&shape(50, 100)).unwrap_err();
        assert!(error.to_string().contains("102020000 paths"), "{error}");
    }

    #[test]
    fn a_lab_that_overflows_the_neighbour_table_is_warned_of_with_the_command_that_helps() {
        assert_eq!(neighbour_warning(&shape(3, 2), 1024), None);
        let warning = neighbour_warning(&shape(50, 1), 1024).unwrap();
        assert!(warning.contains("needs 2650") && warning.contains("gc_thresh3=5300"), "{warning}");
    }
}
