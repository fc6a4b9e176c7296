//! What level `reduced` keeps away without a single namespace, and what runs there all the same.

use std::fmt::Write as _;

use super::{
    expected::{Expected, ends, prints, stopped_by},
    inside::Who,
    provided::Case,
};

/// Tries each expression, and prints `denied` for each that is refused and `ESCAPE` for each that
/// is not.
fn each(name: &str, imports: &str, tries: &[&str]) -> (Case, Expected) {
    let mut code = format!("import os\n{imports}\n");
    for tried in tries {
        let _ = writeln!(
            code,
            "try: r={tried}; print('ESCAPE',repr(r)[:200])\nexcept OSError as e: print('denied',e)"
        );
    }
    code.push_str("print('tried')");
    (Case::own(name, "python", &code), prints("tried"))
}

/// All of them.
pub(super) fn cases(who: Who) -> Vec<(Case, Expected)> {
    let mut cases = reaching_out();
    if who == Who::User {
        cases.push(as_the_same_user());
    }
    cases.extend(leaving_something());
    cases.extend(meaning_well());
    cases.extend(super::beside::cases());
    cases
}

fn reaching_out() -> Vec<(Case, Expected)> {
    vec![
        each(
            "files of the machine and of the service",
            "",
            &[
                "open('{SERVICE_DB}').read()",
                "os.listdir('{SERVICE_DIR}')",
                "open('{SERVICE_DIR}/data/journal.redb','rb').read(9)",
                "open('/etc/passwd').read()",
                "os.listdir('/')",
                "os.listdir('/tmp')",
                "os.listdir('/proc')",
                "open('/proc/{SERVICE_PID}/environ','rb').read()",
                "open('/proc/self/status').read()",
            ],
        ),
        each(
            "writing beside its own directory",
            "",
            &[
                "open('{SERVICE_DIR}/planted','w')",
                "open('../planted','w')",
                "os.mkdir('{SERVICE_DIR}/planted')",
                "os.rename('{SERVICE_DB}','stolen')",
                "os.link('{SERVICE_DB}','stolen')",
                "os.unlink('{SERVICE_DB}')",
                "os.truncate('{SERVICE_DB}',0)",
            ],
        ),
        each(
            "the network and sockets",
            "import socket as s",
            &[
                "s.create_connection(('127.0.0.1',18999),1)",
                "s.socket(s.AF_INET,s.SOCK_DGRAM).sendto(b'x',('127.0.0.1',18998))",
                "s.socket(s.AF_UNIX).connect('{SERVICE_SOCK}')",
                "s.socket(s.AF_UNIX).connect('\\0casebox-test')",
                "s.socket(s.AF_NETLINK,s.SOCK_RAW)",
            ],
        ),
        each(
            "other processes",
            "import signal,ctypes\nlibc=ctypes.CDLL(None,use_errno=True)\ndef call(*a):\n    r=libc.syscall(*a)\n    \
             if r<0: raise OSError(ctypes.get_errno(),'refused')\n    return r",
            &[
                "os.kill({SERVICE_PID},0)",
                "os.kill(os.getppid(),signal.SIGKILL)",
                "call(101,16,{SERVICE_PID},0,0)",
                "call(310,{SERVICE_PID},0,0,0,0,0)",
                "call(302,{SERVICE_PID},7,0,ctypes.create_string_buffer(16))",
            ],
        ),
        each(
            "namespaces and filters",
            "import ctypes\nlibc=ctypes.CDLL(None,use_errno=True)\ndef call(*a):\n    r=libc.syscall(*a)\n    \
             if r<0: raise OSError(ctypes.get_errno(),'refused')\n    return r",
            &["call(272,0x10000000)", "call(272,0x20000)", "call(425,1,0)", "call(319,b'x',0)"],
        ),
    ]
}

/// The files and processes of the user as whom it runs.
fn as_the_same_user() -> (Case, Expected) {
    each(
        "what belongs to its user",
        "",
        &[
            "os.chmod('{SERVICE_DB}',0)",
            "os.utime('{SERVICE_DB}',(0,0))",
            "os.chown('{SERVICE_DB}',os.getuid(),os.getgid())",
            "os.setpriority(os.PRIO_PROCESS,{SERVICE_PID},19)",
            "os.setpriority(os.PRIO_USER,0,19)",
            "os.sched_setaffinity({SERVICE_PID},{0})",
        ],
    )
}

/// What is ended with the run. That nothing is left is looked at in the end.
fn leaving_something() -> Vec<(Case, Expected)> {
    vec![
        (
            Case::own(
                "a daemon",
                "python",
                "import os,signal\nif os.fork()==0:\n    os.setsid()\n    if os.fork()==0: signal.pause()\n    os._exit(0)\nprint('left')",
            ),
            prints("left"),
        ),
        (
            Case::own("a fork bomb", "bash", "b(){ b|b& }; b; sleep 30"),
            stopped_by(&["exit", "wall", "cpu", "signal"]),
        ),
        (
            Case::own(
                "a loop without end",
                "python",
                "print('it loops',flush=True)\nwhile True: pass",
            ),
            Expected { ended_by: &["wall"], exit_code: Some(124), ..ends() }.prints("it loops"),
        ),
        (
            Case::own(
                "more memory than there is",
                "python",
                "print('it eats',flush=True)\nx=[]\nwhile True: x.append(bytearray(1<<24))",
            ),
            Expected { ended_by: &["exit", "memory"], exit_code: None, ..ends() }.prints("it eats"),
        ),
    ]
}

fn meaning_well() -> Vec<(Case, Expected)> {
    let python =
        |name: &str, code: &str, text: &str| (Case::own(name, "python", code), prints(text));
    let mut files = Case::own(
        "files in and out, and input",
        "python",
        "import sys\nopen('out.txt','w').write(sys.stdin.read()+open('in/a.txt').read())\nprint(open('out.txt').read())",
    );
    files.stdin = Some("one ".to_owned());
    files.files = vec![("in/a.txt".to_owned(), b"two".to_vec())];
    files.return_files = vec!["*.txt".to_owned()];
    vec![
        python(
            "asyncio, threads, other programs",
            "import asyncio,threading,subprocess,tempfile,sqlite3\nasync def f(): return await asyncio.to_thread(str,'async')\n\
             print(asyncio.run(f()))\nt=threading.Thread(target=print,args=('thread',)); t.start(); t.join()\n\
             print(subprocess.check_output(['echo','child']).decode())\n\
             with tempfile.TemporaryFile() as f: f.write(b'x')\n\
             c=sqlite3.connect('db'); c.execute('create table t(a)'); c.commit(); print('all')",
            "async\nthread\nchild\n\nall",
        ),
        (files, Expected { files: Some(vec!["out.txt"]), ..prints("one two") }),
        (Case::own("node", "node", "setTimeout(()=>console.log('later'),5)"), prints("later")),
        (
            Case::own("bash", "bash", "cat <(seq 3 | sort -r) && echo $((2+2))"),
            prints("3\n2\n1\n4"),
        ),
    ]
}
