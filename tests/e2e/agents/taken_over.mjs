// A plugin that an agent gives its own gateway: whoever calls the gateway gets what /data/mode says.
import { readFileSync } from "node:fs";
import { Server } from "node:http";

const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
const MODES = {
  nonsense: (socket) => socket.end(`${HEAD}[]`),
  bomb: (socket) => socket.end(`${HEAD}{"output":[${"[],".repeat(5_000_000)}1]}`),
  headers: (socket) => socket.end(`HTTP/1.1 200 OK\r\n${`A: ${"b".repeat(60_000)}\r\n`.repeat(1000)}\r\n{}`),
  redirect: (socket) => socket.end("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
  error: (socket) => socket.end(`${HEAD.replace("200 OK", "500 Oh")}{"error":{"message":"${"rate limit exceeded ".repeat(50_000)}"}}`),
  slow: (socket) => {
    socket.write(`${HEAD}{`);
    const timer = setInterval(() => socket.write(" "), 1_000);
    socket.on("close", () => clearInterval(timer));
  },
};
const { emit } = Server.prototype;

Server.prototype.emit = function (name, request, response) {
  if (name !== "request" || request.url === "/startupz") return emit.apply(this, arguments);
  response.detachSocket(request.socket);
  request.socket.on("error", () => {});
  MODES[readFileSync("/data/mode", "utf8").trim()](request.socket);
  return true;
};

export default { id: "taken", register() {} };
