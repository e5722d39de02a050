// Two consumers as their frameworks' first pages show them: one with Express, one with Koa. Each reads JSON, and answers with
// the task that it read, or null. EXPRESS and KOA are the ports.
import express from "express";
import Koa from "koa";
import bodyParser from "koa-bodyparser";

const task = (body) => ({ read: body?.data?.task_id ?? null });

const app = express();
app.set("env", "production"); // no stack traces
app.use(express.json());
app.post("/hooks", (request, response) => response.json(task(request.body)));
app.listen(Number(process.env.EXPRESS), "127.0.0.1");

const koa = new Koa();
koa.silent = true;
koa.use(bodyParser());
koa.use((context) => {
  context.body = task(context.request.body);
});
koa.listen(Number(process.env.KOA), "127.0.0.1");
