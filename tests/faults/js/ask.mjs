// Ask for streams with the official client and tell how each ended: `node ask.mjs < asks.json`.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const { base_url, key, contents, at_once } = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI({ baseURL: base_url, apiKey: key, maxRetries: 0 });

async function ending(content) {
  let text = "";
  try {
    const stream = await client.chat.completions.create({
      model: "alone",
      stream: true,
      messages: [{ role: "user", content }],
    });
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  } catch (error) {
    return { ended: error instanceof OpenAI.APIError ? "api error" : String(error), code: error.code ?? null, text };
  }
  return { ended: "complete", code: null, text };
}

const found = new Array(contents.length);
let next = 0;
async function work() {
  while (next < contents.length) {
    const number = next++;
    found[number] = await ending(contents[number]);
  }
}
await Promise.all(Array.from({ length: at_once }, work));
console.log(JSON.stringify(found));
