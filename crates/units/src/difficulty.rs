//! Difficulty: how much harder than the easiest target of the early network a share is.
