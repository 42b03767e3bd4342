//! Frames, and each machine against a scripted other side.

mod agent;
mod collector;
mod cosigned;
mod frames;
