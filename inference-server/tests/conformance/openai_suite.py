"""The HTTP door as OpenAI's own Python package sees it."""

import json
import os
import unittest
from concurrent import futures

import openai
import pydantic

CHAT = "golden/qwen2"
EMBEDDER = "golden/tiny-e5"
HOLA = [{"role": "user", "content": "hola"}]


def client(variable="OBSERVATORY_HTTP"):
    return openai.OpenAI(
        base_url=f"http://{os.environ[variable]}/v1", api_key="none", timeout=60, max_retries=0
    )


class Advertisement(pydantic.BaseModel):
    remote: bool
    seniority: int


class Door(unittest.TestCase):
    def setUp(self):
        self.client = client()

    def tearDown(self):
        self.client.close()

    def chat(self, **fields):
        return self.client.chat.completions.create(model=CHAT, messages=HOLA, **fields)

    def test_models_are_listed_and_found(self):
        names = [model.id for model in self.client.models.list()]
        self.assertLessEqual({CHAT, EMBEDDER}, set(names))
        self.assertEqual(self.client.models.retrieve(CHAT).id, CHAT)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no/such")

    def test_vectors_are_the_same_in_both_encodings(self):
        # The package asks for base64 unless told otherwise.
        packed = self.client.embeddings.create(model=EMBEDDER, input=["análisis de datos", "SQL"])
        plain = self.client.embeddings.create(
            model=EMBEDDER, input=["análisis de datos", "SQL"], encoding_format="float"
        )
        self.assertEqual([row.index for row in packed.data], [0, 1])
        for one, other in zip(packed.data, plain.data, strict=True):
            self.assertAlmostEqual(sum(x * x for x in one.embedding), 1.0, places=5)
            self.assertEqual(len(one.embedding), len(other.embedding))
            for x, y in zip(one.embedding, other.embedding, strict=True):
                self.assertAlmostEqual(x, y, places=7)
        self.assertGreater(packed.usage.prompt_tokens, 2)

    def test_a_chat_streams_what_it_answers_whole(self):
        fields = {"max_completion_tokens": 12, "seed": 7}
        whole = self.chat(**fields)
        self.assertEqual(whole.choices[0].finish_reason, "length")
        self.assertEqual(whole.usage.completion_tokens, 12)
        chunks = list(self.chat(**fields, stream=True, stream_options={"include_usage": True}))
        text = "".join(
            chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices
        )
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, 12)

    def test_a_type_comes_back_as_that_type(self):
        answer = self.client.chat.completions.parse(
            model=CHAT, messages=HOLA, response_format=Advertisement, max_completion_tokens=80, seed=3
        )
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertIsInstance(answer.choices[0].message.parsed, Advertisement)

    def test_any_object_can_be_asked_for(self):
        answer = self.chat(response_format={"type": "json_object"}, max_completion_tokens=200, seed=1)
        if answer.choices[0].finish_reason == "stop":
            self.assertIsInstance(json.loads(answer.choices[0].message.content), dict)
        else:
            self.assertEqual(answer.choices[0].finish_reason, "length")

    def test_log_probabilities_are_sorted(self):
        answer = self.chat(max_completion_tokens=4, logprobs=True, top_logprobs=3, temperature=0)
        for token in answer.choices[0].logprobs.content:
            best = [other.logprob for other in token.top_logprobs]
            self.assertEqual(best, sorted(best, reverse=True))
            self.assertEqual((len(best), token.logprob), (3, best[0]))

    def test_completions_of_several_prompts(self):
        answer = self.client.completions.create(model=CHAT, prompt=["hola", "adiós"], max_tokens=5, seed=2)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
        stream = self.client.completions.create(
            model=CHAT, prompt="hola", max_tokens=5, seed=2, stream=True
        )
        self.assertEqual("".join(chunk.choices[0].text for chunk in stream), answer.choices[0].text)

    def test_a_stream_that_is_left_frees_its_text(self):
        for _ in range(40):
            with self.chat(max_completion_tokens=200, stream=True, seed=1) as stream:
                next(iter(stream))
        self.assertEqual(self.chat(max_completion_tokens=2).usage.completion_tokens, 2)

    def test_refusals_are_the_package_s_exceptions(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="no/such", messages=HOLA)
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(top_p=2)
        self.assertEqual((caught.exception.param, caught.exception.code), ("top_p", "invalid_value"))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.embeddings.create(model=EMBEDDER, input=[])
        self.assertEqual(caught.exception.param, "input")

    def test_too_much_at_once_is_refused_for_a_while(self):
        small = client("OBSERVATORY_HTTP_SMALL")

        def embed(call):
            texts = [f"programación {call} {number}" for number in range(64)]
            try:
                return len(small.embeddings.create(model=EMBEDDER, input=texts).data)
            except openai.RateLimitError as refused:
                return refused

        with futures.ThreadPoolExecutor(8) as pool:
            for attempt in range(200):
                answers = list(pool.map(embed, range(8 * attempt, 8 * attempt + 8)))
                refusals = [answer for answer in answers if not isinstance(answer, int)]
                if refusals:
                    break
        self.assertGreater(int(refusals[0].response.headers["retry-after-ms"]), 0)
        self.assertEqual(refusals[0].code, "rate_limit_exceeded")


if __name__ == "__main__":
    unittest.main()
