// Runs in a Node.js that was started without a program: reports readiness with one byte, reads two lines
// (the file name of the program and TRACEPARENT), and runs the program as the main module, like
// `node FILE`.
{
    const fs = require("fs");
    fs.writeSync(1, "\0");
    const byte = Buffer.alloc(1);
    const words = [];
    let word = "";
    while (words.length < 2) {
        if (fs.readSync(0, byte, 0, 1, null) === 0) process.exit(0);
        if (byte[0] === 10) {
            words.push(word);
            word = "";
        } else {
            word += String.fromCharCode(byte[0]);
        }
    }
    const [name, traceparent] = words;
    if (traceparent) process.env.TRACEPARENT = traceparent;
    const path = require("path").join(process.cwd(), name);
    process.argv = [process.execPath, path];
    require("module").runMain(path);
}
