//! Holds no code: Tandem's integration tests are the test binary `it` of this package, a file per
//! promise, driven against the real `tandem` binary.
