//! The proof: harness for everything that needs root, network namespaces or real servers.
