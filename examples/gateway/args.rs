use std::error::Error;
use std::ffi::OsString;
use std::net::SocketAddr;

use lexopt::prelude::*;

/// The command line.
pub(crate) struct Args {
    pub(crate) listen: SocketAddr,
}

impl Args {
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Box<dyn Error>> {
        let mut parser = lexopt::Parser::from_iter(args);
        let mut listen = SocketAddr::from(([127, 0, 0, 1], 4000));
        while let Some(arg) = parser.next()? {
            match arg {
                Long("listen") => {
                    let value = parser.value()?.string()?;
                    listen = value
                        .parse()
                        .map_err(|_| format!("--listen {value}: not an address, such as 127.0.0.1:4000"))?;
                }
                Long(flag @ ("mint" | "database")) => {
                    return Err(
                        format!("--{flag}: this gateway has no virtual keys yet, and so nothing to keep").into()
                    );
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if !listen.ip().is_loopback() {
            return Err(format!(
                "--listen {listen}: without virtual keys whoever reaches this port spends your money, so it listens on loopback only"
            )
            .into());
        }
        Ok(Args { listen })
    }
}
