//! An error with its causes, as people read it.

use std::error::Error;

/// The error's text and those of its causes, each once, joined by `: `.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("attach the pod")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the pool is full")]
    struct Inner;

    #[test]
    fn each_cause_is_told_once() {
        assert_eq!(chain(&Outer(Inner)), "attach the pod: the pool is full");
    }
}
