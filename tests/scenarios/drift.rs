//! Each kind of object that an agent looks after, broken by somebody else.
