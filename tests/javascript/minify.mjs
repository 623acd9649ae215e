// Print what the pinned minifier makes of the script that is named.
import { readFileSync } from "node:fs";
import { minifySync } from "@swc/core";

const [, , path] = process.argv;
// ES2022 is what the script is written in.
const options = { ecma: 2022, module: false, compress: { ecma: 2022, passes: 3, unsafe_arrows: true }, mangle: true };
process.stdout.write(`${minifySync(readFileSync(path, "utf8"), options).code}\n`);
