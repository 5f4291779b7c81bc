//! What nodes, and machines that want to be nodes, make of each other over connections.

#![cfg(test)]

mod buffered;
mod joining;
mod links;
mod site;
