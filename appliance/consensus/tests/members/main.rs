//! Members of a cluster, in one process and over real connections.

#![cfg(test)]

mod growth;
mod life;
mod nodes;
