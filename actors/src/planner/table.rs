//! Tests: a table of goals and their plans in short form.
//!
//! The short form of a plan is its actions, separated by ` | `; code follows its action as
//! `{language: source}`.

use ai_factory_schemas::plan::TaskType;

use super::propose;

/// The plan of `goal` in short form, or the error's message.
pub(super) fn short(goal: &str) -> String {
    match propose(goal, TaskType::General) {
        Ok(plan) => plan
            .steps
            .iter()
            .map(|step| match &step.code {
                Some(code) => format!("{} {{{}: {}}}", step.action, code.language, code.source),
                None => step.action.clone(),
            })
            .collect::<Vec<_>>()
            .join(" | "),
        Err(error) => format!("error: {error}"),
    }
}

/// Checks every row and reports all that differ, not only the first.
#[track_caller]
pub(super) fn check(rows: &[(&str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(goal, expected)| short(goal) != *expected)
        .map(|(goal, expected)| {
            format!("{goal:?}\n  wanted {expected:?}\n  got    {:?}", short(goal))
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_goal_of_one_step_stays_whole() {
    check(&[
        ("Deploy", "Deploy"),
        ("  Say hello.  ", "Say hello"),
        ("What is 2 + 2?", "What is 2 + 2?"),
        ("build a todo app with login and search", "build a todo app with login and search"),
        ("Collect apples, pears and plums", "Collect apples, pears and plums"),
        ("Write   a\tpoem", "Write a poem"),
        ("🚀", "🚀"),
        ("Fix it!!! 🔥🔥", "Fix it!!! 🔥🔥"),
        ("then", "then"),
        ("...", "..."),
        ("-", "-"),
        ("日本語", "日本語"),
        ("Add a well-known, state-of-the-art parser", "Add a well-known, state-of-the-art parser"),
        ("Note: keep it short", "Note: keep it short"),
        (
            "Write a book about Tolkien, J. R. R. and his maps",
            "Write a book about Tolkien, J. R. R. and his maps",
        ),
    ]);
}

#[test]
fn connectors_separate_steps() {
    check(&[
        ("Fetch the data and then plot it", "Fetch the data | plot it"),
        ("Fetch the data, then plot it", "Fetch the data | plot it"),
        ("Fetch the data then plot it", "Fetch the data | plot it"),
        ("Fetch the data, and then, plot it", "Fetch the data | plot it"),
        ("Fetch it; then plot it; finally, print it", "Fetch it | plot it | print it"),
        (
            "First, fetch the data. After that, plot it. Finally, print it.",
            "fetch the data | plot it | print it",
        ),
        (
            "First fetch the data, next clean it and finally print it",
            "fetch the data | clean it | print it",
        ),
        ("Wash the car after that dry it", "Wash the car | dry it"),
        ("Write tests, run them, and finally commit", "Write tests, run them | commit"),
        ("Then print it", "print it"),
        ("Do a. Next, do b. Afterwards do c. Lastly, do d.", "Do a | do b | do c | do d"),
        ("Build it THEN test it AND THEN ship it", "Build it | test it | ship it"),
        ("Step 1: fetch. Step 2: parse. Step 3: print.", "fetch | parse | print"),
        ("Step 1 - fetch\nStep 2 - parse", "fetch | parse"),
    ]);
}

#[test]
fn words_that_only_look_like_connectors_do_not_separate() {
    check(&[
        ("If the file exists then delete it", "If the file exists then delete it"),
        (
            "If the file exists, then delete it, then stop",
            "If the file exists, then delete it | stop",
        ),
        ("Check if the file exists, then delete it", "Check if the file exists | delete it"),
        ("Describe life back then and since then", "Describe life back then and since then"),
        ("Wait until then", "Wait until then"),
        ("Do it every now and then", "Do it every now and then"),
        ("Explain the then-unknown planet", "Explain the then-unknown planet"),
        ("Open then.txt and read it", "Open then.txt and read it"),
        ("Explain the finally block of try", "Explain the finally block of try"),
        ("Show what happened after that date", "Show what happened after that date"),
        ("Plan next week, next month and next year", "Plan next week, next month and next year"),
        ("First names come first", "First names come first"),
        ("Strengthen the authentication", "Strengthen the authentication"),
        ("When the build is done then deploy", "When the build is done then deploy"),
    ]);
}

#[test]
fn sentences_semicolons_arrows_and_dashes_separate() {
    check(&[
        ("Open the file. Read it. Close it.", "Open the file | Read it | Close it"),
        ("open the file. read it. close it", "open the file | read it | close it"),
        ("Is it up? Restart it! Tell me.", "Is it up? | Restart it! | Tell me"),
        ("fetch; parse; store;", "fetch | parse | store"),
        ("fetch;parse;store", "fetch | parse | store"),
        ("fetch -> parse -> store", "fetch | parse | store"),
        ("fetch → parse → store", "fetch | parse | store"),
        ("fetch->parse->store", "fetch | parse | store"),
        ("fetch => parse => store", "fetch | parse | store"),
        ("fetch - parse - store", "fetch | parse | store"),
        ("fetch – parse – store", "fetch | parse | store"),
        ("Gather the data — clean it — plot it", "Gather the data | clean it | plot it"),
        ("Gather the data—clean it", "Gather the data | clean it"),
        ("Send the report — which is long — to Bob", "Send the report — which is long — to Bob"),
        (
            "Write a function f(x: int) -> str that formats",
            "Write a function f(x: int) -> str that formats",
        ),
        ("Rename a.txt -> b.txt", "Rename a.txt -> b.txt"),
        ("Read p->next of the list", "Read p->next of the list"),
        ("Compute 10 - 3 and pages 3-5", "Compute 10 - 3 and pages 3-5"),
        ("Wait... Then go on", "Wait | go on"),
        ("Wait... what is this", "Wait... what is this"),
        ("Say \"Done.\" Stop.", "Say \"Done.\" | Stop"),
    ]);
}

#[test]
fn nothing_is_cut_inside_names_numbers_quotes_and_addresses() {
    check(&[
        ("Use Python 3.12. Then print 3.14", "Use Python 3.12 | print 3.14"),
        (
            "Read main.rs, lib.rs and Cargo.toml. Fix v1.2.3.",
            "Read main.rs, lib.rs and Cargo.toml | Fix v1.2.3",
        ),
        (
            "Open https://a.example/x;y?z=1.2->3. Read it.",
            "Open https://a.example/x;y?z=1.2->3 | Read it",
        ),
        ("See www.example.org. Summarise it.", "See www.example.org | Summarise it"),
        ("Write to bob.smith@example.com; wait", "Write to bob.smith@example.com | wait"),
        ("Say \"first. then; -> - done\" and then stop", "Say \"first. then; -> - done\" | stop"),
        ("Say “one. Two; three” then stop", "Say “one. Two; three” | stop"),
        ("Sag „eins. Zwei; drei“, dann geh", "Sag „eins. Zwei; drei“ | geh"),
        ("Dis « un. Deux » puis sors", "Dis « un. Deux » puis sors"),
        ("Print 'a; b' then 'c; d'", "Print 'a; b' | 'c; d'"),
        ("Don't stop; it's fine; l'été aussi", "Don't stop | it's fine | l'été aussi"),
        ("Run `cargo test; ls -> x. Y` and then stop", "Run `cargo test; ls -> x. Y` | stop"),
        (
            "Ask Dr. Smith, e.g. about vitamins, etc. and wait",
            "Ask Dr. Smith, e.g. about vitamins, etc. and wait",
        ),
        ("Buy milk, eggs, etc. Cook them.", "Buy milk, eggs, etc. | Cook them"),
        ("Meet J. Smith at 5 p.m. Bring notes.", "Meet J. Smith at 5 p.m. | Bring notes"),
        ("Compare U.S. Steel vs. Nucor", "Compare U.S. Steel vs. Nucor"),
        (
            "Nimm z. B. Äpfel bzw. Birnen. Schneide sie.",
            "Nimm z. B. Äpfel bzw. Birnen | Schneide sie",
        ),
        ("Triff mich am 3. Mai. Bring Kuchen.", "Triff mich am 3. Mai | Bring Kuchen"),
        ("Choose plan B. Explain it.", "Choose plan B | Explain it"),
        ("See fig. 3 and no. 4", "See fig. 3 and no. 4"),
        ("Collect data (sales; costs. Both) then plot", "Collect data (sales; costs. Both) | plot"),
        ("Write &lt;b&gt; then stop", "Write &lt;b&gt; | stop"),
        ("Load .env and ./run.sh; -5 is ok", "Load .env and ./run.sh | -5 is ok"),
        ("Learn C++. Learn C#. Learn .NET", "Learn C++ | Learn C# | Learn .NET"),
        ("Cut a 5\" pipe. Then cut a 6\" pipe.", "Cut a 5\" pipe | cut a 6\" pipe"),
    ]);
}

#[test]
fn lists_are_steps() {
    check(&[
        ("1. Fetch\n2. Parse\n3. Store", "Fetch | Parse | Store"),
        ("1) Fetch\n2) Parse", "Fetch | Parse"),
        ("(1) Fetch (2) Parse and (3) Store", "Fetch | Parse | Store"),
        ("1. fetch 2. parse 3. store", "fetch | parse | store"),
        ("a) fetch b) parse c) store", "fetch | parse | store"),
        ("a. Fetch\nb. Parse", "Fetch | Parse"),
        ("- Fetch\n- Parse\n* Store\n+ Print\n• Done", "Fetch | Parse | Store | Print | Done"),
        ("- [ ] Fetch\n- [x] Parse\n[ ] Store", "Fetch | Parse | Store"),
        ("☐ Fetch\n☑ Parse", "Fetch | Parse"),
        ("Do this:\n- fetch\n- parse", "fetch | parse"),
        ("Do this: 1) fetch 2) parse", "fetch | parse"),
        ("Plan: 1. gather data, 2. parse it, 3. store it.", "gather data | parse it | store it"),
        ("- Backend:\n  - API\n  - DB\n- Frontend", "API | DB | Frontend"),
        ("- Backend\n  - API\n- Frontend", "Backend | API | Frontend"),
        ("# Build a tool\n\n- parse\n- print", "parse | print"),
        ("# Set up\n# Build\n# Test", "Set up | Build | Test"),
        ("Report\n======\nWrite it", "Write it"),
        (
            "1. Fetch the data and then clean it\n2. Plot; save",
            "Fetch the data | clean it | Plot | save",
        ),
        ("1. A long item that\n   goes on here\n2. Next", "A long item that goes on here | Next"),
        (
            "fetch data\nparse it\r\nstore it\n\n---\n\nprint it",
            "fetch data | parse it | store it | print it",
        ),
        (
            "Write a function that takes a list of whole numbers and returns\nthe sum of them.",
            "Write a function that takes a list of whole numbers and returns the sum of them",
        ),
        ("> - fetch\n> - parse", "fetch | parse"),
        ("①取得②解析", "取得 | 解析"),
        ("1️⃣ fetch 2️⃣ parse", "fetch | parse"),
    ]);
}

#[test]
fn other_scripts_and_languages_are_read_alike() {
    check(&[
        ("先下载数据，然后分析，最后写报告。", "先下载数据 | 分析 | 写报告"),
        ("下载数据。分析数据；写报告！", "下载数据 | 分析数据 | 写报告！"),
        (
            "データを取得する。それから分析する。最後に報告する。",
            "データを取得する | 分析する | 報告する",
        ),
        ("「一。二」と言う。終わる。", "「一。二」と言う | 終わる"),
        ("1、下载\n2、分析", "下载 | 分析"),
        (
            "데이터를 받는다. 그런 다음 분석한다. 마지막으로 쓴다.",
            "데이터를 받는다 | 분석한다 | 쓴다",
        ),
        ("اجمع البيانات ثم حللها؛ اكتب التقرير", "اجمع البيانات | حللها | اكتب التقرير"),
        ("डेटा लाओ। फिर उसे जाँचो।", "डेटा लाओ | उसे जाँचो"),
        (
            "Скачай данные, затем построй график. Наконец, отправь.",
            "Скачай данные | построй график | отправь",
        ),
        ("Daten laden und dann zeichnen, danach drucken", "Daten laden | zeichnen | drucken"),
        (
            "Charge les données, puis trace-les, enfin imprime",
            "Charge les données | trace-les | imprime",
        ),
        (
            "Carga los datos, luego analízalos y finalmente imprime",
            "Carga los datos | analízalos | imprime",
        ),
        ("Κατέβασε τα δεδομένα. Ανάλυσέ τα.", "Κατέβασε τα δεδομένα | Ανάλυσέ τα"),
        ("🔥 fetch it. 🚀 ship it.", "🔥 fetch it | 🚀 ship it"),
    ]);
}

#[test]
fn code_becomes_the_code_of_its_step() {
    check(&[
        (
            "Work out the 20th Fibonacci number, then print it: ```python\na,b=0,1\nfor _ in range(20): a,b=b,a+b\nprint(a)\n```",
            "Work out the 20th Fibonacci number | print it {python: a,b=0,1\nfor _ in range(20): a,b=b,a+b\nprint(a)\n}",
        ),
        ("```python\nprint(1)\n```", "Run the Python code {python: print(1)\n}"),
        (
            "Run this:\n\n```Python title=\"x\"\nprint(1)\n```\n\nThen stop.",
            "Run this {python: print(1)\n} | stop",
        ),
        ("Print the sum.\n```py\nprint(1+2)\n```", "Print the sum {py: print(1+2)\n}"),
        ("Try it:\n~~~rust\nfn main() {}\n~~~", "Try it {rust: fn main() {}\n}"),
        ("Try it:\n```\nprint(1)\n```", "Try it {python: print(1)\n}"),
        (
            "Say it:\n```\nDear all. Then; bye\n```\nStop",
            "Say it\n```\nDear all. Then; bye\n``` | Stop",
        ),
        (
            "Save this: ```json\n{\"a\": 1}\n``` and then stop",
            "Save this: ```json\n{\"a\": 1}\n``` | stop",
        ),
        ("Run:\n```python\nprint(1)", "Run {python: print(1)}"),
        ("Run: ```python print(1)```", "Run {python: print(1)}"),
        ("Run ```print(1)``` now", "Run {python: print(1)} | now"),
        ("Run:\n```python\nprint(1)``` then stop", "Run {python: print(1)} | stop"),
        ("Run:\n````python\nprint('''\n```\n''')\n````", "Run {python: print('''\n```\n''')\n}"),
        ("Run:\n```python\ns = '```'\nprint(s)\n```", "Run {python: s = '```'\nprint(s)\n}"),
        (
            "1. Add:\n   ```python\n   if 1:\n       print(2)\n   ```\n2. Stop",
            "Add {python: if 1:\n    print(2)\n} | Stop",
        ),
        (
            "- ```python\n  print(1)\n  ```\n- Stop",
            "Run the Python code {python: print(1)\n} | Stop",
        ),
        (
            "```python\nprint(1)\n```\n```python\nprint(2)\n```",
            "Run the Python code {python: print(1)\n} | Run the Python code {python: print(2)\n}",
        ),
        (
            "```python\nprint(1)\n```\nCheck the output",
            "Run the Python code {python: print(1)\n} | Check the output",
        ),
        ("Run ```python\nprint(1)\n``` in a sandbox", "Run in a sandbox {python: print(1)\n}"),
        ("Run `python: print(2+2)` and show it", "Run {python: print(2+2)} | show it"),
        ("Check that `python: 1+1` gives 2", "Check that `python: 1+1` gives 2 {python: 1+1}"),
        ("Add them. Python: `print(1; 2)`", "Add them {python: print(1; 2)}"),
        ("Explain the Python `print` function", "Explain the Python `print` function"),
        ("Run `cargo test` then `x`", "Run `cargo test` | `x`"),
        (
            "Compute it with python: print(1); print(2)",
            "Compute it with python {python: print(1); print(2)}",
        ),
        ("python: print(1)", "Run the Python code {python: print(1)}"),
        ("Python: learn the basics. Practise.", "Python: learn the basics | Practise"),
        (
            "Run this python:\nfor i in range(2):\n    print(i)\n\nStop",
            "Run this python {python: for i in range(2):\n    print(i)} | Stop",
        ),
        ("Run bash: `ls -la`", "Run bash {bash: ls -la}"),
        ("Empty:\n```python\n```\nStop", "Empty\n```python\n``` | Stop"),
        ("# Sum\n```python\nprint(1)\n```", "Sum {python: print(1)\n}"),
        ("Start:\r\n```python\r\nprint(1)\r\n```\r\nStop", "Start {python: print(1)\n} | Stop"),
        ("An `unclosed tick; then stop", "An `unclosed tick | stop"),
        ("Use python: 3.12 here", "Use python: 3.12 here"),
    ]);
}

#[test]
fn a_goal_may_mix_every_kind() {
    check(&[
        (
            "Print 1; print 2. Print 3\nprint 4 -> print 5 and then print 6, after that print 7 — print 8, finally print 9",
            "Print 1 | print 2 | Print 3 | print 4 | print 5 | print 6 | print 7 | print 8 | print 9",
        ),
        (
            "1. Load `data.csv`\n2. Compute the mean\n   - ignore empty cells\n3. Finally, save it to out.json",
            "Load `data.csv` | Compute the mean | ignore empty cells | save it to out.json",
        ),
        (
            "First, run:\n```bash\necho hi\n```\nThen run:\n```python\nprint('hi')\n```\nFinally, compare them.",
            "run {bash: echo hi\n} | run {python: print('hi')\n} | compare them",
        ),
        (
            "Compute the sum:\n\n```python\nprint(1)\n```\n\nand the product:\n\n```python\nprint(2)\n```\n\nand then compare.",
            "Compute the sum {python: print(1)\n} | the product {python: print(2)\n} | compare",
        ),
        (
            "Write a script. It should:\n- parse args\n- print help\n\nDocument it.",
            "Write a script | parse args | print help | Document it",
        ),
        ("Step one: gather. Step two: build.", "gather | build"),
        ("a\nb\nc", "a | b | c"),
        ("I need you to: (a) fetch, (b) parse; and (c) store.", "fetch | parse | store"),
        ("Do the following:\n\nfetch the data\nclean it", "fetch the data | clean it"),
        ("1: Fetch\n2: Parse\n3- Store", "Fetch | Parse | Store"),
        ("First: fetch\nSecond: parse", "fetch | parse"),
        ("Say \"a -> b; c. d\" -> stop", "Say \"a -> b; c. d\" | stop"),
        (
            "Visit St. Louis, then fly to Washington D.C. and then home",
            "Visit St. Louis | fly to Washington D.C. | home",
        ),
        ("Do it (carefully; slowly). Then rest.", "Do it (carefully; slowly) | rest"),
        (
            "Prüfe, ob es läuft. Wenn ja, dann stoppe es, danach starte es.",
            "Prüfe, ob es läuft | Wenn ja, dann stoppe es | starte es",
        ),
        (
            "Compute it with `python: print(1)` then `python: print(2)`",
            "Compute it with {python: print(1)} | Run the Python code {python: print(2)}",
        ),
        (
            "run python `print(1)` then run bash `ls`",
            "run python {python: print(1)} | run bash {bash: ls}",
        ),
        ("Python:\n```\nprint(1)\n```", "Run the Python code {python: print(1)\n}"),
    ]);
}

#[test]
fn a_task_type_frames_the_goal() {
    let actions = |task_type| -> Vec<String> {
        propose("Do it", task_type).unwrap().steps.into_iter().map(|step| step.action).collect()
    };
    assert_eq!(actions(TaskType::General), ["Do it"]);
    let coding = actions(TaskType::Coding);
    assert!(coding[0].contains("Scaffold repo") && coding[1..] == ["Do it"]);
    let research = actions(TaskType::Research);
    assert!(research[0].contains("question") && research[1] == "Do it", "{research:?}");
    assert!(research[2].contains("sources") && research[3].contains("Summarise"), "{research:?}");
    let planning = actions(TaskType::Planning);
    assert!(planning[0].contains("aims") && planning[1] == "Do it", "{planning:?}");
    assert!(planning[2].contains("risks") && planning.len() == 3, "{planning:?}");
}

#[test]
fn each_step_says_why_it_is_there() {
    let goal = "# Trip\n1. Book, then pay\n2. [x] Pack:\n   - socks\n   - hats\n\nFinally, run `python: 1+1`";
    let plan = propose(goal, TaskType::General).unwrap();
    let reasons: Vec<&str> = plan.steps.iter().map(|step| step.rationale.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "Item 1 of the goal's list. Part of “Trip”.",
            "Follows step 0. The goal says “then”. Part of “Trip”.",
            "An item of the goal's list. Part of “Pack” in “Trip”.",
            "An item of the goal's list. Part of “Pack” in “Trip”.",
            "Comes last. The goal says “Finally”. Part of “Trip”. Carries the goal's Python code.",
        ]
    );
    let listed = propose("- [ ] a\n- [x] b", TaskType::General).unwrap();
    assert!(listed.steps[0].rationale.contains("open item"), "{}", listed.steps[0].rationale);
    assert!(listed.steps[1].rationale.contains("Ticked off"), "{}", listed.steps[1].rationale);
}

#[test]
fn notes_and_tokens_describe_the_plan() {
    let plan = propose("Run:\n```python\nprint(1)\n```\nthen stop", TaskType::Coding).unwrap();
    assert_eq!(plan.notes, "3 steps, 1 of them added for coding; 1 with code (Python).");
    assert_eq!(plan.estimated_tokens, 32);
    let long = propose(&"word ".repeat(1000), TaskType::General).unwrap();
    assert!((2400..=2600).contains(&long.estimated_tokens), "{}", long.estimated_tokens);
}
