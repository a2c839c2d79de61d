//! Network namespaces: made, opened, identified and entered on threads of their own.
