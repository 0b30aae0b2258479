"""Conformance of the inference server to its contract and to gRPC, asked by grpcio.

Run by tests/inference/conformance.rs, which starts two servers on the tiny checkpoints and passes their addresses:
OBSERVATORY_INFERENCE, and OBSERVATORY_INFERENCE_SMALL, which has room for few tokens.
"""

import json
import unittest
from concurrent import futures

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client import DOMAIN, PACKAGE, PATIENCE, Server, details, floats

EMBED = "EmbeddingService/Embed"
EMBED_STREAM = "EmbeddingService/EmbedStream"
CLASSIFY = "TokenClassificationService/Classify"
CLASSIFY_STREAM = "TokenClassificationService/ClassifyStream"
RANK = "RankingService/Rank"
TOKENIZE = "TokenizationService/Tokenize"
DETOKENIZE = "TokenizationService/Detokenize"
COUNT = "TokenizationService/CountTokens"
LIST = "ModelsService/ListModels"
GENERATE = "GenerationService/Generate"
GENERATE_BATCH = "GenerationService/GenerateBatch"

E5, DENSE, NER, RANKER = "golden/tiny-e5", "golden/dense-bin", "golden/xlmr-ner", "golden/xlmr-ranker"
WRITER = "golden/qwen2"
SKILLS = ["programación en Python", "soldadura", "gestión de proyectos"]
# What a request with one fault in it needs in addition to the fault.
GOOD = {
    EMBED: {"texts": SKILLS},
    CLASSIFY: {"texts": SKILLS},
    RANK: {"query": "Python", "documents": SKILLS},
    TOKENIZE: {"texts": SKILLS},
    DETOKENIZE: {"sequences": [{"ids": [5, 6]}]},
    COUNT: {"texts": SKILLS},
}


def setUpModule():
    """Waits until both servers have loaded their models."""
    for variable in ("OBSERVATORY_INFERENCE", "OBSERVATORY_INFERENCE_SMALL"):
        server = Server(variable)
        asked = health_pb2.HealthCheckRequest(service="ready")
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(asked, timeout=PATIENCE)
        next(answer for answer in watch if answer.status == health_pb2.HealthCheckResponse.SERVING)
        watch.cancel()
        server.channel.close()


class Conformance(unittest.TestCase):
    """Every test ends with a server that still serves."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.health = health_pb2_grpc.HealthStub(cls.server.channel)

    def tearDown(self):
        answer = self.server.call(EMBED, texts=["todavía aquí"])
        self.assertTrue(answer.items[0].ok)

    def refused(self, code, call, *arguments, **fields):
        """The details of the refusal that the call ends in; every refusal carries ErrorInfo and a request id."""
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments, **fields)
        error = caught.exception
        self.assertEqual(error.code(), code, error.details())
        found = details(error)
        self.assertEqual(found["ErrorInfo"].domain, DOMAIN)
        initial, trailing = error.initial_metadata() or (), error.trailing_metadata() or ()
        self.assertIn("x-request-id", dict(initial) | dict(trailing))
        return found

    def field_of(self, found):
        return found["BadRequest"].field_violations[0].field


class Services(Conformance):
    def test_reflection_lists_what_is_served(self):
        names = set(self.server.database.get_services())
        ours = {f"{PACKAGE}.{name}Service" for name in ("Embedding", "TokenClassification", "Ranking")}
        ours |= {f"{PACKAGE}.{name}Service" for name in ("Tokenization", "Generation", "Models")}
        standard = {"grpc.health.v1.Health"} | {f"grpc.reflection.{v}.ServerReflection" for v in ("v1", "v1alpha")}
        self.assertEqual(names, ours | standard)

    def test_every_method_answers_or_refuses_an_empty_request(self):
        paths = []
        for path, method in self.server.methods():
            paths.append(path)
            if method.client_streaming:
                call = self.server.channel.stream_stream(path)(iter([b""]), timeout=PATIENCE)
            else:
                call = self.server.channel.unary_unary(path).future(b"", timeout=PATIENCE)
            expected = [grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT]
            if "ModelsService" in path:
                # There is no model without a name.
                expected.append(grpc.StatusCode.NOT_FOUND)
            if path.endswith(("/LoadModel", "/UnloadModel")):
                # Being on the same machine makes nobody an admin.
                expected = [grpc.StatusCode.PERMISSION_DENIED]
            self.assertIn(call.code(), expected, path)
        self.assertEqual(len(paths), 14)

    def test_a_method_that_is_not_there(self):
        for path in (f"/{PACKAGE}.EmbeddingService/Nothing", "/no.such.Service/Method"):
            with self.assertRaises(grpc.RpcError) as caught:
                self.server.channel.unary_unary(path)(b"", timeout=PATIENCE)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_health_check_and_watch(self):
        serving = health_pb2.HealthCheckResponse.SERVING
        names = ["", "ready", f"ready.{E5}", f"{PACKAGE}.EmbeddingService", f"{PACKAGE}.RankingService"]
        for name in names:
            asked = health_pb2.HealthCheckRequest(service=name)
            self.assertEqual(self.health.Check(asked, timeout=PATIENCE).status, serving, name)
            watch = self.health.Watch(asked, timeout=PATIENCE)
            self.assertEqual(next(watch).status, serving, name)
            watch.cancel()
        with self.assertRaises(grpc.RpcError) as caught:
            self.health.Check(health_pb2.HealthCheckRequest(service="ready.no/such"), timeout=PATIENCE)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_models_in_pages(self):
        found, token = {}, ""
        while True:
            page = self.server.call(LIST, page_size=1, page_token=token)
            self.assertEqual(len(page.models), 1)
            found[page.models[0].name] = page.models[0]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(set(found), {E5, DENSE, NER, RANKER, WRITER})
        self.assertEqual(list(found[DENSE].matryoshka_dimensions), [4, 8])
        refused = self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.server.call, LIST, page_size=-1)
        self.assertEqual(self.field_of(refused), "page_size")


class Embedding(Conformance):
    def embed(self, texts=SKILLS, **settings):
        return self.server.call(EMBED, texts=texts, settings=settings)

    def test_vectors_are_of_unit_length_and_in_order(self):
        answer = self.embed(model={"name": E5})
        rows = floats(answer.vectors)
        self.assertEqual(len(rows), answer.dimensions * len(SKILLS))
        for index, text in enumerate(SKILLS):
            row = rows[index * answer.dimensions : (index + 1) * answer.dimensions]
            self.assertAlmostEqual(sum(x * x for x in row), 1.0, places=5)
            alone = floats(self.embed([text], model={"name": E5}).vectors)
            for got, expected in zip(row, alone):
                self.assertAlmostEqual(got, expected, places=5)
        self.assertEqual(answer.usage.prompt_tokens, sum(item.tokens for item in answer.items))
        self.assertEqual((answer.model_name, len(answer.model_revision)), (E5, 64))

    def test_encodings_say_the_same(self):
        expected = floats(self.embed().vectors)
        half = self.embed(encoding="VECTOR_ENCODING_F16")
        for got, exact in zip(floats(half.vectors, "e"), expected, strict=True):
            self.assertAlmostEqual(got, exact, delta=abs(exact) / 2048 + 1e-7)
        upper = self.embed(encoding="VECTOR_ENCODING_BF16")
        widened = b"".join(b"\0\0" + upper.vectors[at : at + 2] for at in range(0, len(upper.vectors), 2))
        for got, exact in zip(floats(widened), expected, strict=True):
            self.assertAlmostEqual(got, exact, delta=abs(exact) / 256 + 1e-7)
        bytes_ = self.embed(encoding="VECTOR_ENCODING_INT8")
        for place, (step, exact) in enumerate(zip(floats(bytes_.vectors, "b"), expected, strict=True)):
            scale = bytes_.scales[place // bytes_.dimensions]
            self.assertAlmostEqual(step * scale, exact, delta=scale * 0.501)
        bits = self.embed(encoding="VECTOR_ENCODING_BINARY").vectors
        self.assertEqual(len(bits) * 8, len(expected))
        for place, exact in enumerate(expected):
            self.assertEqual(bits[place // 8] >> (7 - place % 8) & 1, int(exact > 0))

    def test_vectors_are_cut_only_where_the_model_was_trained_for_it(self):
        whole = self.embed(["SQL"], model={"name": DENSE})
        cut = self.embed(["SQL"], model={"name": DENSE}, dimensions=8, normalize=True)
        self.assertEqual((whole.dimensions, cut.dimensions), (12, 8))
        first = floats(whole.vectors)[:8]
        norm = sum(x * x for x in first) ** 0.5
        for got, exact in zip(floats(cut.vectors), first, strict=True):
            self.assertAlmostEqual(got, exact / norm, places=5)
        for model, dimensions in ((DENSE, 7), (DENSE, 0), (E5, 8)):
            settings = {"model": {"name": model}, "dimensions": dimensions}
            refused = self.refused(
                grpc.StatusCode.INVALID_ARGUMENT, self.server.call, EMBED, texts=SKILLS, settings=settings
            )
            self.assertEqual(self.field_of(refused), "settings.dimensions")

    def test_a_prompt_by_name_and_by_text(self):
        named = self.embed(model={"name": E5}, prompt_name="query")
        literal = self.embed(model={"name": E5}, prompt="query: ")
        self.assertEqual(named.vectors, literal.vectors)
        self.assertNotEqual(named.vectors, self.embed(model={"name": E5}).vectors)

    def test_bad_items_fail_alone(self):
        long = "palabra " * 500
        megabyte = "x" * (1 << 20)
        answer = self.embed(["bien", "", " \u00a0\n", long, megabyte], truncation="TRUNCATION_REJECT")
        reasons = [item.error.reason for item in answer.items]
        self.assertEqual(reasons, ["", "EMPTY_INPUT", "EMPTY_INPUT", "INPUT_TOO_LONG", "INPUT_TOO_LARGE"])
        self.assertEqual([item.ok for item in answer.items], [True, False, False, False, False])
        limit = int(answer.items[3].error.metadata["limit"])
        self.assertGreater(int(answer.items[3].error.metadata["tokens"]), limit)
        for side in ("TRUNCATION_LEFT", "TRUNCATION_RIGHT"):
            item = self.embed([long], truncation=side).items[0]
            self.assertEqual((item.ok, item.truncated, item.tokens), (True, True, limit))


class OtherTasks(Conformance):
    TEXT = "Diseño 🙂 de programación en Python, soldadura y más"

    def classify(self, texts, **settings):
        return self.server.call(CLASSIFY, texts=texts, settings=settings).texts

    def test_entities_in_every_unit(self):
        cuts = {
            "OFFSET_UNIT_CODE_POINT": lambda a, b: self.TEXT[a:b],
            "OFFSET_UNIT_BYTE": lambda a, b: self.TEXT.encode()[a:b].decode(),
            "OFFSET_UNIT_UTF16": lambda a, b: self.TEXT.encode("utf-16-le")[2 * a : 2 * b].decode("utf-16-le"),
        }
        for unit, cut in cuts.items():
            found = self.classify([self.TEXT], offset_unit=unit, aggregation="AGGREGATION_FIRST")[0]
            self.assertTrue(found.entities)
            for entity in found.entities:
                self.assertEqual(cut(entity.start, entity.end), entity.text, unit)

    def test_labels_tokens_and_windows(self):
        found = self.classify([self.TEXT], labels=["Skill"], return_tokens=True)[0]
        self.assertEqual({entity.label for entity in found.entities} - {"Skill"}, set())
        self.assertEqual(len(found.tokens), found.status.tokens)
        long, empty = self.classify([self.TEXT * 20, ""], overlap_tokens=4)
        self.assertGreater(long.windows, 1)
        self.assertEqual(empty.status.error.reason, "EMPTY_INPUT")
        for settings, field in (
            ({"labels": ["Nothing"]}, "settings.labels[0]"),
            ({"min_score": 2.0}, "settings.min_score"),
            ({"overlap_tokens": 10_000}, "settings.overlap_tokens"),
        ):
            refused = self.refused(
                grpc.StatusCode.INVALID_ARGUMENT, self.server.call, CLASSIFY, texts=["a"], settings=settings
            )
            self.assertEqual(self.field_of(refused), field)

    def test_ranking(self):
        answer = self.server.call(RANK, query="Python", documents=SKILLS + [""])
        scores = [document.score for document in answer.documents if document.status.ok]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(sorted(document.index for document in answer.documents), [0, 1, 2, 3])
        self.assertEqual(answer.documents[3].status.error.reason, "EMPTY_INPUT")

    def test_tokens_counts_and_text(self):
        model = {"name": E5}
        tokenized = self.server.call(TOKENIZE, model=model, texts=SKILLS).texts
        counted = self.server.call(COUNT, model=model, texts=SKILLS)
        self.assertEqual(list(counted.counts), [len(text.ids) for text in tokenized])
        for text, tokens in zip(SKILLS, tokenized):
            self.assertEqual(list(tokens.starts), sorted(tokens.starts[:-1]) + [0])
            self.assertEqual(max(tokens.ends), len(text.encode()))
        sequences = [{"ids": text.ids} for text in tokenized]
        again = self.server.call(DETOKENIZE, model=model, sequences=sequences).texts
        recounted = self.server.call(TOKENIZE, model=model, texts=again).texts
        self.assertEqual([list(text.ids) for text in recounted], [list(text.ids) for text in tokenized])
        refused = self.refused(
            grpc.StatusCode.INVALID_ARGUMENT, self.server.call, DETOKENIZE, sequences=[{"ids": [1 << 30]}]
        )
        self.assertEqual(self.field_of(refused), "sequences[0].ids[0]")


class Refusals(Conformance):
    def test_empty_batches_and_batches_over_the_limit(self):
        for path, good in GOOD.items():
            many = next(name for name, value in good.items() if isinstance(value, list))
            for count in (0, 2000):
                fields = good | {many: (good[many] * count)[:count]}
                refused = self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.server.call, path, **fields)
                self.assertEqual(self.field_of(refused), many, path)

    def test_models_that_are_not_there_or_do_something_else(self):
        for path, good in GOOD.items():
            at_top = path.startswith("Tokenization")
            model = lambda **model: {"model": model} if at_top else {"settings": {"model": model}}
            refused = self.refused(
                grpc.StatusCode.NOT_FOUND, self.server.call, path, **good, **model(name="no/such")
            )
            self.assertEqual(refused["ResourceInfo"].resource_type, "model")
            revision = model(name=E5, revision="0" * 64)
            self.refused(grpc.StatusCode.FAILED_PRECONDITION, self.server.call, path, **good, **revision)
            if not at_top:
                other = model(name=NER if path != CLASSIFY else E5)
                refused = self.refused(
                    grpc.StatusCode.FAILED_PRECONDITION, self.server.call, path, **good, **other
                )
                self.assertEqual(refused["PreconditionFailure"].violations[0].type, "TASK")

    def test_numbers_that_no_enum_has(self):
        for path, field in ((EMBED, "truncation"), (EMBED, "encoding"), (CLASSIFY, "offset_unit"), (RANK, "priority")):
            refused = self.refused(
                grpc.StatusCode.INVALID_ARGUMENT, self.server.call, path, **GOOD[path], settings={field: 99}
            )
            self.assertEqual(self.field_of(refused), f"settings.{field}")

    def test_messages_that_are_not_the_contracts(self):
        invalid_utf8 = b"\x12\x02\xff\xfe"
        cut_short = b"\x12\x7fab"
        for path in GOOD:
            call = self.server.channel.unary_unary(f"/{PACKAGE}.{path}")
            for message in (invalid_utf8, cut_short, b"\xff" * 64):
                if path == DETOKENIZE and message == invalid_utf8:
                    continue  # There the field holds a message and no text.
                refused = self.refused(grpc.StatusCode.INVALID_ARGUMENT, call, message, timeout=PATIENCE)
                self.assertEqual(refused["ErrorInfo"].reason, "MALFORMED_MESSAGE", path)

    def test_messages_over_the_limit(self):
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            server = Server(compression=compression)
            texts = ["x" * 100_000] * 50
            refused = self.refused(grpc.StatusCode.OUT_OF_RANGE, server.call, EMBED, texts=texts)
            self.assertEqual(refused["ErrorInfo"].reason, "MESSAGE_TOO_LARGE")
            self.assertEqual(refused["ErrorInfo"].metadata["limit"], str(4 << 20))
            server.channel.close()

    def test_work_without_room_is_told_when_to_come_again(self):
        small = Server("OBSERVATORY_INFERENCE_SMALL")
        refused, served = None, 0
        for _ in range(200):
            texts = [f"programación {number}" for number in range(64)]
            calls = [
                small.stub(EMBED).future(small.request(EMBED, texts=texts), timeout=PATIENCE) for _ in range(8)
            ]
            futures.wait([pool_of(call) for call in calls])
            for call in calls:
                if call.code() == grpc.StatusCode.OK:
                    served += 1
                    continue
                self.assertEqual(call.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, call.details())
                refused = call
            if refused:
                break
        found = details(refused)
        self.assertEqual(found["ErrorInfo"].reason, "OVERLOADED")
        delay = found["RetryInfo"].retry_delay.ToTimedelta().total_seconds()
        self.assertGreaterEqual(delay, 0.05)
        pushback = dict(refused.trailing_metadata())["grpc-retry-pushback-ms"]
        self.assertEqual(int(pushback), round(delay * 1000))
        self.assertIn("QuotaFailure", found)
        self.assertGreater(served, 0)
        small.channel.close()


def pool_of(call):
    """A future of the standard library for a call."""
    future = futures.Future()
    call.add_done_callback(future.set_result)
    return future


class Calls(Conformance):
    def test_ids_and_revisions_in_the_metadata(self):
        request = self.server.request(EMBED, texts=SKILLS, settings={"options": {"request_id": "mine-1"}})
        answer, call = self.server.stub(EMBED).with_call(request, timeout=PATIENCE)
        metadata = dict(call.initial_metadata())
        self.assertEqual(metadata["x-request-id"], "mine-1")
        self.assertEqual(metadata["x-model-revision"], answer.model_revision)
        for given in ("theirs-2", None):
            sent = (("x-request-id", given),) if given else ()
            _, call = self.server.stub(TOKENIZE).with_call(
                self.server.request(TOKENIZE, texts=SKILLS), metadata=sent, timeout=PATIENCE
            )
            got = dict(call.initial_metadata())["x-request-id"]
            self.assertTrue(got == given if given else len(got) == 36, got)

    def test_deadlines(self):
        request = self.server.request(EMBED, texts=[f"texto {number} " * 20 for number in range(1000)])
        with self.assertRaises(grpc.RpcError) as caught:
            self.server.stub(EMBED)(request, timeout=0.02)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        with self.assertRaises(grpc.RpcError) as caught:
            self.server.stub(EMBED)(request, timeout=-1)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_cancellation(self):
        request = self.server.request(EMBED, texts=[f"otro {number} " * 20 for number in range(100)])
        calls = [self.server.stub(EMBED).future(request, timeout=PATIENCE) for _ in range(3)]
        for call in calls:
            call.cancel()
        for call in calls:
            self.assertIn(call.code(), (grpc.StatusCode.CANCELLED, grpc.StatusCode.OK))

    def test_compression(self):
        expected = self.server.call(EMBED, texts=SKILLS).vectors
        for compression in (grpc.Compression.Gzip, grpc.Compression.NoCompression):
            server = Server(compression=compression)
            self.assertEqual(server.call(EMBED, texts=SKILLS).vectors, expected)
            items = list(enumerate(SKILLS))
            found = results(server.exchange(EMBED_STREAM, {}, items))
            self.assertEqual(b"".join(found[number].vector for number, _ in items), expected)
            server.channel.close()
        with self.assertRaises(grpc.RpcError) as caught:
            self.server.stub(EMBED)(
                self.server.request(EMBED, texts=SKILLS), compression=grpc.Compression.Deflate, timeout=PATIENCE
            )
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)


def results(replies):
    """The results of a stream by their ids."""
    return {result.id: result for reply in replies for result in reply.results}


class Streams(Conformance):
    def test_every_item_is_answered_under_its_id(self):
        items = [(10_000 - number, SKILLS[number % 3]) for number in range(500)]
        found = results(self.server.exchange(EMBED_STREAM, {}, items))
        self.assertEqual(set(found), {number for number, _ in items})
        expected = self.server.call(EMBED, texts=SKILLS)
        width = len(expected.vectors) // 3
        for number, text in items:
            row = SKILLS.index(text) * width
            for got, exact in zip(
                floats(found[number].vector), floats(expected.vectors[row : row + width]), strict=True
            ):
                self.assertAlmostEqual(got, exact, places=5)

    def test_bad_items_do_not_end_a_stream(self):
        texts = ["bien", "", "x" * (1 << 20), "palabra " * 500, "también"]
        settings = {"truncation": "TRUNCATION_REJECT"}
        found = results(self.server.exchange(EMBED_STREAM, settings, enumerate(texts)))
        reasons = [found[number].status.error.reason for number in range(len(texts))]
        self.assertEqual(reasons, ["", "EMPTY_INPUT", "INPUT_TOO_LARGE", "INPUT_TOO_LONG", ""])

    def test_classification(self):
        texts = ["programación en Python", "", "soldadura"]
        found = results(self.server.exchange(CLASSIFY_STREAM, {"return_tokens": True}, enumerate(texts)))
        expected = self.server.call(CLASSIFY, texts=texts, settings={"return_tokens": True}).texts
        for number in (0, 2):
            self.assertEqual(found[number].text, expected[number])
        self.assertEqual(found[1].text.status.error.reason, "EMPTY_INPUT")

    def test_streams_that_begin_wrongly(self):
        consume = lambda settings: list(self.server.exchange(EMBED_STREAM, settings, []))
        refused = self.refused(grpc.StatusCode.INVALID_ARGUMENT, consume, {"dimensions": 9999})
        self.assertEqual(self.field_of(refused), "settings.dimensions")
        self.refused(grpc.StatusCode.NOT_FOUND, consume, {"model": {"name": "no/such"}})
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, consume, {"model": {"name": NER}})
        for path in (EMBED_STREAM, CLASSIFY_STREAM):
            item = self.server.request(path, item={"id": 1, "text": "a"})
            begin = lambda message: list(self.server.stub(path)(iter([message]), timeout=PATIENCE))
            refused = self.refused(grpc.StatusCode.INVALID_ARGUMENT, begin, item)
            self.assertEqual(self.field_of(refused), "settings")

    def test_text_that_is_not_utf8_is_the_callers_fault(self):
        settings = self.server.request(EMBED_STREAM, settings={}).SerializeToString()
        item = b"\x12\x04\x12\x02\xff\xfe"
        raw = self.server.channel.stream_stream(f"/{PACKAGE}.{EMBED_STREAM}")
        refused = self.refused(
            grpc.StatusCode.INVALID_ARGUMENT, lambda: list(raw(iter([settings, item]), timeout=PATIENCE))
        )
        self.assertEqual(refused["ErrorInfo"].reason, "MALFORMED_MESSAGE")

    def test_a_deadline_ends_a_stream_and_so_does_its_caller(self):
        def endless():
            yield self.server.request(EMBED_STREAM, settings={})
            number = 0
            while True:
                yield self.server.request(EMBED_STREAM, item={"id": number, "text": f"texto {number}"})
                number += 1

        with self.assertRaises(grpc.RpcError) as caught:
            for _ in self.server.stub(EMBED_STREAM)(endless(), timeout=0.3):
                pass
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        stream = self.server.stub(EMBED_STREAM)(endless(), timeout=PATIENCE)
        self.assertTrue(next(stream).results)
        stream.cancel()
        self.assertEqual(stream.code(), grpc.StatusCode.CANCELLED)


class Generation(Conformance):
    def asked(self, **settings):
        limits = {"max_new_tokens": 12, "ignore_end": True} | settings.pop("limits", {})
        return {"model": {"name": WRITER}, "limits": limits} | settings

    def written(self, **fields):
        """The events of a stream, by name."""
        events = list(self.server.call(GENERATE, **fields))
        kinds = [event.WhichOneof("event") for event in events]
        self.assertEqual((kinds[0], kinds[-1], set(kinds[1:-1])), ("started", "finished", {"delta"}))
        return events[0].started, [event.delta for event in events[1:-1]], events[-1].finished

    def test_a_stream_and_a_batch_say_the_same(self):
        prompt = {"text": "Buscamos analista de datos"}
        settings = self.asked(sampling={"temperature": 1.0, "seed": 3})
        started, deltas, finished = self.written(settings=settings, prompt=prompt)
        text = "".join(delta.text for delta in deltas)
        batch = self.server.call(GENERATE_BATCH, settings=settings, prompts=[prompt])
        self.assertEqual((batch.texts[0].text, started.seed), (text, 3))
        self.assertEqual(finished.usage.completion_tokens, 12)
        self.assertEqual(sum(len(delta.token_ids) for delta in deltas), 12)
        self.assertEqual((started.model_name, batch.model_name), (WRITER, WRITER))

    def test_a_schema_is_kept(self):
        schema = '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false}'
        settings = self.asked(limits={"max_new_tokens": 60, "ignore_end": False}, constraint={"json_schema": schema})
        chat = {"chat": {"messages": [{"role": "user", "content": "hola"}]}}
        batch = self.server.call(GENERATE_BATCH, settings=settings, prompts=[chat])
        self.assertIn(json.loads(batch.texts[0].text), [{"a": 1}, {"a": 2}])

    def test_faults_name_the_field(self):
        def field(prompt, **settings):
            stream = lambda **fields: list(self.server.call(GENERATE, **fields))
            arguments = {"settings": self.asked(**settings), "prompt": prompt}
            return self.field_of(self.refused(grpc.StatusCode.INVALID_ARGUMENT, stream, **arguments))

        good = {"text": "hola"}
        self.assertEqual(field({"text": ""}), "prompt")
        self.assertEqual(field({"text": "a " * 400}), "prompt")
        self.assertEqual(field(good, sampling={"top_p": 7.0}), "settings.sampling.top_p")
        self.assertEqual(field(good, constraint={"regex": "("}), "settings.constraint.regex")
        self.assertEqual(field(good, limits={"max_new_tokens": 9000}), "settings.limits.max_new_tokens")

    def test_deadlines_and_cancellation_end_a_stream(self):
        settings = self.asked(limits={"max_new_tokens": 240})
        request = self.server.request(GENERATE, settings=settings, prompt={"text": "hola"})
        late = self.server.stub(GENERATE)(request, timeout=0.001)
        with self.assertRaises(grpc.RpcError) as caught:
            list(late)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        stream = self.server.stub(GENERATE)(request, timeout=PATIENCE)
        next(stream)
        stream.cancel()
        self.assertEqual(stream.code(), grpc.StatusCode.CANCELLED)


if __name__ == "__main__":
    unittest.main()
