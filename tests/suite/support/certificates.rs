//! Certificates for servers of tests at 127.0.0.1.

use std::{path::Path, process::Command};

/// Makes `NAME.pem` and `NAME.key` with the `openssl` of the system; signed by `ca`, or by itself.
pub fn certificate(dir: &Path, name: &str, ca: Option<&str>) {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    command.args([
        "-days",
        "2",
        "-subj",
        &format!("/CN={name}"),
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]);
    command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    if let Some(ca) = ca {
        command.args(["-CA", &format!("{ca}.pem"), "-CAkey", &format!("{ca}.key")]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    let output = command.output().expect("openssl makes certificates: `apt install openssl`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
