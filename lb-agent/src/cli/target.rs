//! A backend on the command line: `10.0.0.11:8000`, or `10.0.0.11` where that says which one is meant.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::{Context, Failure};

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    address: IpAddr,
    port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(full) = text.parse::<SocketAddr>() {
            return Ok(Self { address: full.ip(), port: Some(full.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = bare
            .parse()
            .map_err(|_| "wanted address or address:port: 10.0.0.11:8000, [2001:db8::1]:8000".to_owned())?;
        Ok(Self { address, port: None })
    }
}

impl Target {
    /// Address and port, where both were typed.
    pub(super) fn full(self) -> Option<SocketAddr> {
        self.port.map(|port| SocketAddr::new(self.address, port))
    }

    /// One of the pool: by its address alone where only one backend has it.
    pub(super) async fn in_pool(self, context: &Context, service: &str) -> Result<SocketAddr, Failure> {
        if let Some(full) = self.full() {
            return Ok(full);
        }
        let pool = context.client.backends(service).await?.backends;
        let ports: Vec<_> = pool.iter().filter(|backend| backend.address == self.address).map(|b| b.port).collect();
        self.choose(service, &ports)
    }

    /// A new one: without a port it has the service's.
    pub(super) async fn for_service(self, context: &Context, service: &str) -> Result<SocketAddr, Failure> {
        if let Some(full) = self.full() {
            return Ok(full);
        }
        let services = context.client.services().await?.services;
        let Some(found) = services.iter().find(|found| found.name == service) else {
            return Err(Failure::Failed(format!(
                "there is no service {service:?}; `lb-agent service list` shows them"
            )));
        };
        Ok(SocketAddr::new(self.address, found.port))
    }

    fn choose(self, service: &str, ports: &[u16]) -> Result<SocketAddr, Failure> {
        match ports {
            [port] => Ok(SocketAddr::new(self.address, *port)),
            [] => Err(Failure::Failed(format!(
                "service {service:?} has no backend {}; `lb-agent backend list {service}` shows them",
                self.address
            ))),
            several => Err(Failure::Usage(format!(
                "service {service:?} has {} backends at {}: say which port, one of {several:?}",
                several.len(),
                self.address
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_means_the_one_backend_that_has_it() {
        let target: Target = "10.0.0.11".parse().unwrap();
        assert_eq!(target.choose("llm", &[8000]).unwrap(), "10.0.0.11:8000".parse().unwrap());
        assert_eq!(target.choose("llm", &[]).unwrap_err().exit_code(), 1);
        let several = target.choose("llm", &[8000, 8001]).unwrap_err();
        assert!(several.to_string().contains("[8000, 8001]"), "{several}");
    }

    #[test]
    fn both_families_are_read_with_and_without_a_port() {
        for (text, port) in
            [("10.0.0.11:80", Some(80)), ("[2001:db8::1]:80", Some(80)), ("2001:db8::1", None), ("[2001:db8::1]", None)]
        {
            assert_eq!(text.parse::<Target>().unwrap().port, port, "{text}");
        }
        assert!("localhost:80".parse::<Target>().unwrap_err().contains("10.0.0.11:8000"));
    }
}
