//! `up --start-nats`: a server that lives and ends with the factory.

use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::json;

use super::{LOOK, Up};
use crate::support::{nats::free_address, process::TestHome};

fn start(home: &TestHome, address: SocketAddr) -> Up {
    Up::start(home, &["--start-nats", "--nats", &format!("nats://{address}")])
}

fn wait_until_free(address: SocketAddr) {
    while TcpListener::bind(address).is_err() {
        std::thread::park_timeout(LOOK);
    }
}

#[test]
fn the_server_serves_and_ends_with_the_factory_however_that_ends() {
    let (home, address) = (TestHome::new(), free_address());
    let up = start(&home, address);
    assert_eq!(up.http.get("/healthcheck")["status"], "ok");
    assert!(TcpStream::connect(address).is_ok());
    assert!(home.data().join("nats/nats.conf").exists());
    up.terminate();
    assert!(TcpStream::connect(address).is_err(), "it outlived an orderly end");

    let up = start(&home, address);
    assert_eq!(up.http.post("/supervisor/run", "k", &json!({ "goal": "Greet" })).unwrap().0, 200);
    up.running.killed();
    wait_until_free(address);
    home.assert_nothing_is_left("after a kill");
}

#[test]
fn an_address_that_is_taken_is_said() {
    let home = TestHome::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let url = format!("nats://{address}");
    let (_, said) = home.printed(2, &["up", "--port", "0", "--start-nats", "--nats", &url]);
    assert!(said.contains(&address.to_string()) && said.contains("in use"), "{said}");

    let (_, said) = home.printed(2, &["up", "--port", &address.port().to_string()]);
    assert!(said.contains("--port"), "{said}");
    let (_, said) = home.printed(2, &["up", "--start-nats", "--nats", "nats://example.org"]);
    assert!(said.contains("of this machine"), "{said}");
    let (_, said) = home.printed(2, &["up", "--host", "0.0.0.0", "--port", "0"]);
    assert!(said.contains("token"), "{said}");
    let missing =
        ["up", "--port", "0", "--start-nats", "--set", "nats_server=/nowhere/nats-server"];
    let (_, said) = home.printed(2, &missing);
    assert!(said.contains("install"), "{said}");
}
