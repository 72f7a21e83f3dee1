// What the page asks the server.

async function ask(path, content, signal) {
  const body = content && JSON.stringify(content);
  const method = content ? "POST" : "GET";
  let answer;
  try {
    answer = await fetch(path, { method, body, signal, headers: content ? { "Content-Type": "application/json" } : {} });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("The server cannot be reached. Is it still running?");
  }
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return answer;
}

export const get = async (path) => (await ask(path)).json();
export const post = async (path, content, signal) => (await ask(path, content, signal)).json();

// The events of a stream, as they come.
export async function* events(path, content, signal) {
  const answer = await ask(path, { ...content, stream: true }, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.replace("data: ", "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}
