// What a Node.js does that was started before there is a program for it: it says that it is ready, waits for the words,
// and runs the program as the main module, as `node FILE` would.
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
