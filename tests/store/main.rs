//! Every store passes the suite that anyone's store is asked to pass.

mod broken;
mod cached;
mod memory;
mod properties;
