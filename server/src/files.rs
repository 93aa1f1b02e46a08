//! The files that tell others where the server is: its process id, and the ports in use.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Writes the process id, digits only.
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn write_pid(path: &str) -> io::Result<()> {
    write(Path::new(path), 0o660, std::process::id().to_string().as_bytes())
}

/// What the ports file says: for each kind of listener the URLs that reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ports {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nats: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) monitoring: Vec<String>,
}

/// A ports file that is removed when the server ends.
#[derive(Debug)]
pub(crate) struct PortsFile(PathBuf);

impl PortsFile {
    /// Writes `<program>_<pid>.ports` into a folder.
    ///
    /// # Errors
    ///
    /// The line for the log.
    pub(crate) fn write(folder: &str, program: &str, ports: &Ports) -> Result<Self, String> {
        let path = Path::new(folder).join(format!("{program}_{}.ports", std::process::id()));
        let describe = |error: io::Error| {
            let (path, error) = (path.display(), crate::log::go_error(&error));
            format!("Error writing ports file ({path}): open {path}: {error}")
        };
        let json =
            serde_json::to_vec(ports).map_err(|error| format!("Error marshaling ports file: {error}"))?;
        write(&path, 0o666, &json).map_err(describe)?;
        Ok(PortsFile(path))
    }

    /// Removes the file.
    ///
    /// # Errors
    ///
    /// The line for the log.
    pub(crate) fn remove(self) -> Result<(), String> {
        fs::remove_file(&self.0).map_err(|error| {
            let (path, error) = (self.0.display(), crate::log::go_error(&error));
            format!("Error cleaning up ports file {path}: remove {path}: {error}")
        })
    }
}

fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)
}

/// Returns the addresses of this machine, as far as the kernel shows them; at least the local one.
///
/// Read from /proc: the system call for it takes netlink, which hardened units forbid.
pub(crate) fn interface_addresses() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut addresses = parse_fib_trie(&read("/proc/net/fib_trie"));
    if addresses.is_empty() {
        addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    addresses.extend(parse_if_inet6(&read("/proc/net/if_inet6")));
    addresses
}

/// Finds the local IPv4 addresses in the kernel's routing table, where each stands above a line `/32 host LOCAL`.
fn parse_fib_trie(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in text.lines() {
        if let Some(address) = line.trim_start().strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// Reads the IPv6 addresses of all interfaces: 32 hexadecimal digits at the start of each line.
fn parse_if_inet6(text: &str) -> Vec<IpAddr> {
    let words = text.lines().filter_map(|line| line.split_whitespace().next());
    let bits = words.filter(|word| word.len() == 32).filter_map(|word| u128::from_str_radix(word, 16).ok());
    bits.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))).collect()
}

/// Returns the URLs that reach a listener; one for each address of the machine if it listens on all of them.
pub(crate) fn urls(scheme: &str, bound: SocketAddr, interfaces: &[IpAddr]) -> Vec<String> {
    let url = |ip: &IpAddr| format!("{scheme}://{}", SocketAddr::new(*ip, bound.port()));
    if bound.ip().is_unspecified() { interfaces.iter().map(url).collect() } else { vec![url(&bound.ip())] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_has_digits_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "something longer than a pid").unwrap();
        write_pid(path.to_str().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), std::process::id().to_string());
    }

    #[test]
    fn the_ports_file_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let ports = Ports { nats: vec!["nats://127.0.0.1:4222".to_owned()], monitoring: Vec::new() };
        let file = PortsFile::write(folder.path().to_str().unwrap(), "nats-server", &ports).unwrap();
        let path = folder.path().join(format!("nats-server_{}.ports", std::process::id()));
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"nats":["nats://127.0.0.1:4222"]}"#);
        file.remove().unwrap();
        assert!(!path.exists());
        let error = PortsFile::write("/nowhere", "x", &ports).unwrap_err();
        assert!(
            error.starts_with("Error writing ports file (/nowhere/x_") && error.contains("no such file"),
            "{error}"
        );
    }

    #[test]
    fn addresses_are_found_in_the_kernels_tables() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 127.0.0.1\n\
                    /32 host LOCAL\n     |-- 192.0.2.2\n   /32 host LOCAL\n     |-- 192.0.2.255\n /32 link BROADCAST\n\
                    Local:\n     |-- 127.0.0.1\n /32 host LOCAL\n";
        assert_eq!(parse_fib_trie(trie), ["127.0.0.1", "192.0.2.2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\nfd000000000000000000000000000002 02 40 00 80 eth0\n";
        assert_eq!(parse_if_inet6(inet6), ["::1", "fd00::2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert!(!interface_addresses().is_empty());
    }

    #[test]
    fn a_listener_on_all_addresses_has_a_url_for_each() {
        let interfaces = ["127.0.0.1", "192.0.2.2", "::1"].map(|ip| ip.parse().unwrap());
        let of = |bound: &str| urls("nats", bound.parse().unwrap(), &interfaces).join(" ");
        assert_eq!(of("127.0.0.1:1"), "nats://127.0.0.1:1");
        assert_eq!(of("[::1]:1"), "nats://[::1]:1");
        // Such a listener takes IPv6 too, where there is any.
        assert_eq!(of("0.0.0.0:1"), "nats://127.0.0.1:1 nats://192.0.2.2:1 nats://[::1]:1");
        assert_eq!(of("[::]:1"), "nats://127.0.0.1:1 nats://192.0.2.2:1 nats://[::1]:1");
    }
}
