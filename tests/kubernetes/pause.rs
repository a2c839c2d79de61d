//! What holds a pod's namespaces: it does nothing, and is killed in the end.

fn main() {
    loop {
        std::thread::park();
    }
}
