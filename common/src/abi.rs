//! Kernel ABI: the fixed structures that the eBPF programs write and the agent reads.
