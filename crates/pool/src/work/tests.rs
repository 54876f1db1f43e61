//! Templates become work.
