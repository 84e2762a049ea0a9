"""INTERIM minimal in-memory-ish store for integration; replaced by the real one."""
from __future__ import annotations
import json, itertools
from pathlib import Path
from accord.core.types import *
from accord.core.hashing import content_hash
from accord.core.types import Demonstration, Edge, Group, Judgment, Prompt, Question, Rater, Response
import hashlib

def split_of(pid, test, seed):
    return "test" if int(hashlib.sha256(f"{seed}/{pid}".encode()).hexdigest(), 16) % 10**6 < test * 10**6 else "train"

class Items(list):
    notes = {}
    def split(self, test=0.1, seed=17):
        a = Items(x for x in self if split_of(x.prompt.id, test, seed) == "train")
        b = Items(x for x in self if split_of(x.prompt.id, test, seed) == "test")
        return a, b

class Snapshot:
    def __init__(self, store, name): self.store, self.name = store, name; self.sha256 = content_hash([j.id for j in store.J])
    def demonstrations(self):
        s = self.store
        return Items(Demonstration(prompt=s.P[s.Q[j.question].prompt], response=Response(text=j.answer.text, source="person:"+s.R[j.rater].name, finish="stop"), sources=(j.id,)) for j in s.J if j.answer.kind == "writing")
    def groups(self, **_):
        s = self.store; votes = {}
        for j in s.J:
            q = s.Q[j.question]
            if j.answer.kind == "preference":
                votes.setdefault(q.prompt, []).append((q.responses[j.answer.better], q.responses[1 - j.answer.better], j.id))
            if j.answer.kind == "ranking":
                for (a, ra), (b, rb) in itertools.combinations(zip(q.responses, j.answer.ranks), 2):
                    votes.setdefault(q.prompt, []).append((a, b, j.id) if ra < rb else (b, a, j.id))
        out = Items()
        for pid, vs in votes.items():
            ids = sorted({x for v in vs for x in v[:2]}); edges = []
            for a, b in itertools.combinations(ids, 2):
                ja = [v[2] for v in vs if v[:2] == (a, b)]; jb = [v[2] for v in vs if v[:2] == (b, a)]
                n = len(ja) + len(jb)
                if not n or len(ja) == len(jb): continue
                w, l, m = (a, b, len(ja)) if len(ja) > len(jb) else (b, a, len(jb))
                edges.append(Edge(better=ids.index(w), worse=ids.index(l), p=m / n, agreement=m / n, sources=tuple(ja + jb)))
            out.append(Group(prompt=s.P[pid], responses=tuple(s.S[i] for i in ids), edges=tuple(edges)))
        return out

class Store:
    def __init__(self, path, create=True):
        self.path = Path(path); self.P, self.S, self.Q, self.R, self.J = {}, {}, {}, {}, []
        if self.path.exists():
            d = json.loads(self.path.read_text())
            self.P = {p.id: p for p in map(Prompt.model_validate, d["P"])}
            self.S = {k: Response.model_validate(v) for k, v in d["S"].items()}
            self.Q = {p.id: p for p in map(Question.model_validate, d["Q"])}
            self.R = {p.id: p for p in map(Rater.model_validate, d["R"])}
            self.J = [Judgment.model_validate(j) for j in d["J"]]
    def __enter__(self): return self
    def __exit__(self, *a):
        f = lambda xs: [x.model_dump(mode="json") for x in xs]
        self.path.write_text(json.dumps({"P": f(self.P.values()), "S": {k: v.model_dump(mode="json") for k, v in self.S.items()}, "Q": f(self.Q.values()), "R": f(self.R.values()), "J": f(self.J)}))
    def add_prompts(self, xs): self.P |= {x.id: x for x in xs}
    def add_responses(self, p, xs): self.S |= {x.id_for(p): x for x in xs}
    def add_questions(self, xs): self.Q |= {x.id: x for x in xs}
    def add_raters(self, xs): self.R |= {x.id: x for x in xs}
    def add_judgments(self, xs): self.J += list(xs)
    def prompts(self): return list(self.P.values())
    def freeze(self, n): return Snapshot(self, n)
    def snapshot(self, n): return Snapshot(self, n)
def import_file(*a, **k): raise NotImplementedError
def summarise(s): return {}
def export(*a, **k): raise NotImplementedError
