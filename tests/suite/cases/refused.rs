//! Machines on which a jail cannot be made: the run fails with the layer and the system's error,
//! and nothing runs.

use std::{path::Path, process::Command};

use serde_json::json;

use super::inside::{self, Who};
use crate::{cli::program, ingress::Up};

/// A way to take something away from the factory, and what it then says.
struct Denial {
    /// What root of a user namespace of its own does before it becomes the factory.
    before: &'static str,
    layer: &'static str,
    errno: &'static str,
}

fn denials() -> Vec<Denial> {
    let no_more = |before, layer| Denial { before, layer, errno: "errno 28" };
    vec![
        no_more("echo 0 > /proc/sys/user/max_net_namespaces; exec \"$@\"", "network-namespace"),
        no_more("echo 0 > /proc/sys/user/max_mnt_namespaces; exec \"$@\"", "mount-namespace"),
        no_more("echo 0 > /proc/sys/user/max_pid_namespaces; exec \"$@\"", "pid-namespace"),
        // As in a container that gives no rights and forbids to take them.
        no_more(
            "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"",
            "user-namespace",
        ),
    ]
}

fn assert_each_is_told(dir: &Path) {
    for Denial { before, layer, errno } in denials() {
        let plain = program(dir);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", before, "sh"]);
        command.arg(plain.get_program()).current_dir(dir).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg("--data-dir").arg(dir.join(layer)).args(["up", "--port", "0"]);
        let up = Up::launch(command);
        let asked = json!({ "code": "print('it ran')" });
        let (status, answer) = up.http.post_plain("/debugger/run", &asked).unwrap();
        let said = answer["stderr"].as_str().unwrap_or_default();
        assert!(status == 200 && answer["status"] == "error", "{layer}: {status} {answer}");
        assert_eq!(answer["ended_by"], "sandbox", "{layer}: {answer}");
        assert!(said.contains(layer) && said.contains(errno), "{layer}: {said}");
        assert!(said.contains("to turn it on"), "{layer}: {said}");
        assert_eq!(answer["stdout"], "", "{layer}: {answer}");
        // The rest works.
        let planned = json!({ "prompt": "just think" });
        let (status, planned) = up.http.post_plain("/planner/dispatch", &planned).unwrap();
        assert_eq!(status, 200, "{layer}: {planned}");
        up.terminate();
    }
}

#[test]
fn a_layer_that_is_denied_is_told_with_its_error_and_nothing_runs() {
    let test =
        concat!(module_path!(), "::a_layer_that_is_denied_is_told_with_its_error_and_nothing_runs");
    inside::run(test, Who::User, assert_each_is_told);
}
