"""Answers to the exercises of the part dynamic: unusual right ones, and wrong ones with the hint they draw."""

from fractions import Fraction

import numpy
import torch

RIGHT = {
    "token_pruning.fused": {
        "sorted": """
            order = scores.argsort(dim=1, descending=True)
            def rows(places): return torch.stack([one[place] for one, place in zip(tokens, places)])
            kept, gone = rows(order[:, :count]), rows(order[:, count:])
            left = scores.sort(dim=1, descending=True).values[:, count:]
            return torch.cat([kept, (gone * left[..., None]).sum(1, keepdim=True)], 1)""",
        "loop": """
            found = []
            for one, score in zip(tokens, scores):
                best = sorted(range(len(score)), key=lambda i: -score[i].item())
                fused = sum(score[i] * one[i] for i in best[count:])
                found.append(torch.stack([one[i] for i in best[:count]] + [fused]))
            return torch.stack(found)""",
        "all less the kept": """
            kept = scores.topk(count).indices
            stay = torch.take_along_dim(tokens, kept[..., None], 1)
            all_of_them = torch.einsum("bn,bnd->bd", scores, tokens)
            held = torch.einsum("bk,bkd->bd", scores.gather(1, kept), stay)
            return torch.cat([stay, (all_of_them - held)[:, None]], 1)""",
        "float64 and a mask": """
            tokens, scores = tokens.double(), scores.double()
            least = scores.topk(count).values[:, -1:]
            weights = torch.where(scores < least, scores, 0)
            kept = scores.topk(count).indices
            batch = torch.arange(len(tokens))[:, None]
            return torch.cat([tokens[batch, kept], torch.bmm(weights[:, None], tokens)], 1)""",
        "stable sort": """
            values, places = torch.sort(scores, dim=-1, descending=True, stable=True)
            ordered = tokens[torch.arange(len(tokens)).unsqueeze(1), places]
            last = (ordered * values.unsqueeze(-1))[:, count:].sum(dim=1)
            return torch.cat((ordered[:, :count], last.unsqueeze(1)), dim=1)""",
        "zeroed in place": """
            others = scores.clone(); kept = scores.topk(count, dim=1).indices
            for row in range(len(kept)): others[row, kept[row]] = 0
            stay = torch.stack([tokens[row, kept[row]] for row in range(len(kept))])
            return torch.cat([stay, (others.unsqueeze(-1) * tokens).sum(dim=1).unsqueeze(1)], dim=1)"""},
    "token_pruning.macs": {
        "rounded before": """
            total, n = 0.0, patches
            for keep in keeps:
                m = n if keep is None else int(math.ceil(round(keep * n, 6)))
                total += 4 * (n + 1) * dim**2 + 2 * (n + 1)**2 * dim + 8 * (m + 1) * dim**2
                n = m
            return total""",
        "fractions": """
            from fractions import Fraction
            total, n = 0, patches
            for keep in keeps:
                m = math.ceil(Fraction(str(1 if keep is None else keep)) * n)
                total += (n + 1) * (4 * dim * dim + 2 * (n + 1) * dim) + (m + 1) * 8 * dim * dim
                n = m
            return total""",
        "recursion": """
            if not keeps: return 0
            left = math.ceil((keeps[0] or 1) * patches - 1e-9)
            enter = patches + 1
            own = 2 * enter * dim * (2 * dim + enter) + 8 * (left + 1) * dim * dim
            return own + block_macs(dim, left, keeps[1:])""",
        "tensor of counts": """
            sizes = [patches]
            for keep in keeps:
                sizes.append(sizes[-1] if keep is None else math.ceil(keep * sizes[-1] - 1e-9))
            n = torch.tensor(sizes).double() + 1
            return (4 * n[:-1] * dim**2 + 2 * n[:-1]**2 * dim + 8 * n[1:] * dim**2).sum()""",
        "floor of the negative": """
            total = 0
            for keep in keeps:
                left = patches if keep is None else -int(-(keep * patches - 1e-9) // 1)
                total += dim * (4 * dim * (patches + 1) + 2 * (patches + 1)**2 + 8 * dim * (left + 1))
                patches = left
            return total""",
        "one more where more is left": """
            total = 0
            for keep in keeps:
                left = patches
                if keep is not None:
                    left = int(keep * patches)
                    if keep * patches - left > 1e-6: left += 1
                total += 4 * (patches + 1) * dim**2 + 2 * (patches + 1)**2 * dim + 8 * (left + 1) * dim**2
                patches = left
            return total"""},
    "token_pruning.masked_softmax": {
        "as published": """
            allowed = kept[:, None, None] + (1 - kept[:, None, None]) * torch.eye(kept.shape[1])
            powers = (scores - scores.amax(-1, keepdim=True)).exp() * allowed
            return (powers + 1e-6 / kept.shape[1]) / (powers.sum(-1, keepdim=True) + 1e-6)""",
        "of the library": """
            from lightvit_lab.dynamic.token_pruning import masked_softmax
            return masked_softmax(scores, kept[:, None, None])""",
        "by the formula": """
            g = kept[:, None, None].expand_as(scores).clone()
            g.diagonal(dim1=-2, dim2=-1).fill_(1)
            return scores.exp() * g / (scores.exp() * g).sum(-1, keepdim=True)""",
        "additive mask": """
            hidden = (kept == 0)[:, None, None, :] & ~torch.eye(kept.shape[-1], dtype=torch.bool)
            return F.softmax(scores + torch.zeros_like(scores).masked_fill(hidden, -1e9), dim=-1)""",
        "token by token": """
            out = torch.zeros_like(scores)
            for b in range(scores.shape[0]):
                for i in range(scores.shape[2]):
                    see = [j for j in range(scores.shape[3]) if j == i or kept[b, j] == 1]
                    out[b, :, i, see] = scores[b, :, i, see].softmax(-1)
            return out""",
        "logarithm of the mask": """
            seen = torch.maximum(kept[:, None, None], torch.eye(kept.shape[1]))
            return (scores.double() + seen.double().log()).softmax(-1)""",
        "normalised afterwards": """
            weights = scores.softmax(-1)
            g = torch.where(torch.eye(kept.shape[1]).bool(), 1.0, kept[:, None, None])
            return F.normalize(weights * g, p=1, dim=-1)""",
        "lowest float": """
            low = torch.finfo(scores.dtype).min
            seen = (kept[:, None, None] > 0.5) | torch.eye(kept.shape[1]).bool()
            return torch.where(seen, scores, low).softmax(dim=-1)"""},
    "token_pruning.straight_through": {
        "one-hot": """
            soft = (logits + noise).softmax(-1)
            hard = F.one_hot(soft.argmax(-1), 2).float()
            return (hard - soft.detach() + soft)[..., 0]""",
        "sigmoid": """
            keep = torch.sigmoid((logits + noise)[..., 0] - (logits + noise)[..., 1])
            return (keep > 0.5).float() + (keep - keep.detach())""",
        "rounded": """
            soft = F.softmax(logits + noise, dim=2)[:, :, 0]
            return soft + (soft.round() - soft).detach()""",
        "float64": """
            both = logits.double() + noise.double()
            soft = both.exp()[..., 0] / both.exp().sum(-1)
            return torch.where(both[..., 0] > both[..., 1], 1.0, 0.0) - soft.detach() + soft""",
        "own gradient": """
            class Straight(torch.autograd.Function):
                @staticmethod
                def forward(ctx, soft): return (soft > 0.5).to(soft)
                @staticmethod
                def backward(ctx, gradient): return gradient
            return Straight.apply((logits + noise).softmax(-1)[..., 0])""",
        "by hand": """
            y = logits + noise
            soft = 1 / (1 + torch.exp(y[..., 1] - y[..., 0]))
            hard = (y[..., 0] > y[..., 1]).int()
            return (hard - soft).detach() + soft"""},
    "token_pruning.sampling": {
        "loop": """
            found, total = [], scores.sum()
            for k in range(1, count + 1):
                running = 0.0
                for place, score in enumerate(scores):
                    running = running + score
                    if running >= (2 * k - 1) / (2 * count) * total: break
                if place not in found: found.append(place)
            return torch.tensor(found)""",
        "first true": """
            sums = scores.cumsum(0) / scores.sum()
            steps = (torch.arange(count) + 0.5) / count
            return (sums[None] >= steps[:, None]).float().argmax(1).unique()""",
        "bucketize": """
            sums = F.normalize(scores, p=1, dim=0).cumsum(0)
            return torch.unique(torch.bucketize(torch.linspace(0.5, count - 0.5, count) / count, sums))""",
        "count below": """
            sums = scores.double().cumsum(0)
            steps = (2 * torch.arange(1, count + 1) - 1).double() / (2 * count) * sums[-1]
            return torch.tensor(sorted(set((sums < one).sum().item() for one in steps)))""",
        "numpy": """
            import numpy as np
            sums = np.cumsum(scores.numpy() / scores.numpy().sum(), dtype=np.float64)
            return torch.from_numpy(np.unique(np.searchsorted(sums, np.arange(1, 2 * count, 2) / (2 * count) - 1e-9)))""",
        "linspace": """
            steps = torch.linspace(1 / (2 * count), 1 - 1 / (2 * count), count)
            return torch.searchsorted(torch.cumsum(scores / sum(scores), dim=0), steps).unique()""",
        "hits": """
            sums = (scores / scores.sum()).cumsum(0)
            hit = torch.zeros(len(scores), dtype=torch.bool)
            for k in range(count): hit[(sums < (2 * k + 1) / (2 * count)).sum()] = True
            return hit.nonzero().squeeze(1).to(torch.int32)"""},
    "token_pruning.lengths": {
        "two digits": 2.1, "three": 2.11, "four": 2.111, "computed": 16900 / 8004, "as text": "2.11", "tensor": torch.tensor(2.1114),
        "numpy": numpy.float64(2.11), "one axis": torch.tensor([2.1])},
    "token_merging.match": {
        "cosine similarity": """
            a, b = metric[0::2], metric[1::2]
            like = F.cosine_similarity(a[:, None], b[None], dim=-1)
            value, place = like.max(1)
            top = value.topk(r).indices
            return torch.stack((top * 2, place[top] * 2 + 1), 1)""",
        "loop": """
            unit = metric / metric.norm(dim=-1, keepdim=True)
            found = []
            for i in range(0, len(unit), 2):
                likes = [(unit[i] @ unit[j]).item() for j in range(1, len(unit), 2)]
                best = max(range(len(likes)), key=likes.__getitem__)
                found.append((likes[best], i, 2 * best + 1))
            return torch.tensor([pair[1:] for pair in sorted(found, reverse=True)[:r]])""",
        "distances": """
            unit = F.normalize(metric.double(), dim=1)
            apart = torch.cdist(unit[::2], unit[1::2])
            near = apart.min(1)
            going = near.values.argsort()[:r]
            return torch.cat([2 * going[:, None], 2 * near.indices[going][:, None] + 1], 1)""",
        "table with itself": """
            unit = F.normalize(metric, dim=-1)
            like = unit @ unit.T
            like[:, ::2] = -2
            best, to = like[::2].max(-1)
            order = best.sort(descending=True).indices[:r]
            return torch.stack([torch.arange(len(metric))[::2][order], to[order]], -1).int()""",
        "one by one": """
            unit = metric / metric.square().sum(1, keepdim=True).sqrt()
            likeness = torch.einsum("ad,bd->ab", unit[::2], unit[1::2])
            taken, pairs = likeness.clone(), []
            for _ in range(r):
                a, b = divmod(taken.argmax().item(), taken.shape[1])
                pairs.append([2 * a, 2 * b + 1])
                taken[a] = -9
            return torch.tensor(pairs)""",
        "unflatten": """
            even, odd = F.normalize(metric, dim=-1).unflatten(0, (-1, 2)).unbind(1)
            best = torch.max(even.matmul(odd.t()), dim=-1)
            rows = torch.argsort(-best.values)
            return torch.stack([rows * 2, best.indices[rows] * 2 + 1]).T[:r]"""},
    "token_merging.mean": {
        "index_add": """
            count = places.max() + 1
            above = torch.zeros(count, tokens.shape[1]).index_add(0, places, tokens * sizes[:, None])
            return above / torch.zeros(count).index_add(0, places, sizes)[:, None]""",
        "loop": """
            found = []
            for one in range(int(places.max()) + 1):
                here = places == one
                found.append((tokens[here] * sizes[here, None]).sum(0) / sizes[here].sum())
            return torch.stack(found)""",
        "scatter_add": """
            above = tokens.new_zeros(len(places.unique()), tokens.shape[1])
            above.scatter_add_(0, places[:, None].expand_as(tokens), tokens * sizes.unsqueeze(1))
            return above / places.bincount(weights=sizes)[:, None]""",
        "shares in float64": """
            share = sizes / torch.bincount(places, sizes)[places]
            goes = (places[None] == torch.arange(places.max() + 1)[:, None]).double()
            return goes * share @ tokens.double()""",
        "repeated": """
            repeat = sizes.long()
            each, where = tokens.repeat_interleave(repeat, 0), places.repeat_interleave(repeat)
            return torch.stack([each[where == one].mean(0) for one in where.unique()])""",
        "pair by pair": """
            merged, size = {}, {}
            for token, s, place in zip(tokens, sizes, places.tolist()):
                old, had = merged.get(place, 0), size.get(place, 0)
                merged[place], size[place] = (old * had + token * s) / (had + s), had + s
            return torch.stack([merged[place] for place in sorted(merged)])"""},
    "token_merging.log_size": {
        "fused kernel": "\n        return F.scaled_dot_product_attention(query, key, value, attn_mask=sizes.log()[None].expand(len(query), -1))",
        "sizes times powers": """
            weights = (query @ key.T / math.sqrt(query.shape[-1])).exp() * sizes
            return weights / weights.sum(1, keepdim=True) @ value""",
        "repeated keys": """
            many = sizes.long()
            keys, values = key.repeat_interleave(many, 0), value.repeat_interleave(many, 0)
            return (query @ keys.T * key.shape[1]**-0.5).softmax(1) @ values""",
        "float64": """
            scores = query.double() @ key.double().mT / key.shape[-1]**0.5
            return (scores + sizes.double().log()[None, :]).softmax(-1) @ value.double()""",
        "wider keys": """
            wide = torch.cat([key, sizes.log()[:, None] * key.shape[1]**0.5], 1)
            asks = torch.cat([query, torch.ones(len(query), 1)], 1)
            return ((asks @ wide.T) / key.shape[1]**0.5).softmax(-1) @ value""",
        "renormalised": """
            plain = (query @ key.T / key.shape[1]**0.5).softmax(1) * sizes
            return F.normalize(plain, p=1, dim=1) @ value""",
        "query by query": "\n        return torch.stack([((key @ one / len(one)**0.5 + sizes.log()).softmax(0)[:, None] * value).sum(0) for one in query])"},
    "token_merging.unmerge": {
        "stack": "return torch.stack([tokens[second[place]] for place in first])",
        "step by step": "return tokens[second][first]",
        "index_select": "return torch.index_select(tokens, 0, second.gather(0, first))",
        "lists": "return tokens[second.tolist()][first.tolist(), :]",
        "matrices": """
            into = F.one_hot(first, len(second)).to(tokens) @ F.one_hot(second, len(tokens)).to(tokens)
            return into @ tokens""",
        "float64": "return torch.take_along_dim(tokens, second[first][:, None], 0).double()",
        "embedding": "return F.embedding(second[first], tokens)"},
    "token_merging.tokens_left": {
        "float": 4.0, "numpy": numpy.int64(4), "tensor": torch.tensor(4), "one axis": torch.tensor([4.0]), "int": 4,
        "computed": 3.0000000000000004 + 1},
    "token_merging.time_gain": {
        "two digits": 1.3, "three": 1.31, "four": 1.305, "computed": 1 / (13 / 40 + 30 / 68), "tensor": torch.tensor(1.3052),
        "rounded on the way": 40 / (13 + 17.65), "as text": "1.31"},
    "early_exit.mean_cost": {
        "float32": "return macs[exits].float().mean()",
        "loop": "return sum(macs[one].item() for one in exits) / len(exits)",
        "histogram": "return (exits.bincount(minlength=len(macs)).double() / len(exits) @ macs.double()).item()",
        "one-hot": "return (F.one_hot(exits, len(macs)) * macs).sum() / exits.numel()",
        "gather": "return macs.gather(0, exits).double().mean().item()",
        "exit by exit": """
            parts = [(exits == place).double().mean() * cost for place, cost in enumerate(macs)]
            return torch.stack(parts).sum()""",
        "numpy": "return macs.numpy()[exits.numpy()].mean()"},
    "early_exit.patience": {
        "runs": """
            taken, run = torch.full((named.shape[1],), len(named)), torch.ones(named.shape[1])
            for place in range(len(named)):
                if place: run = torch.where(named[place] == named[place - 1], run + 1, 1)
                taken[(run >= agree) & (taken == len(named))] = place
            return taken""",
        "sets in int32": """
            found = []
            for column in named.T.tolist():
                hits = [p for p in range(agree - 1, len(column)) if len(set(column[p - agree + 1:p + 1])) == 1]
                found.append(hits[0] if hits else len(column))
            return torch.tensor(found, dtype=torch.int32)""",
        "unfold": """
            windows = named.unfold(0, agree, 1)
            same = (windows == windows[..., :1]).all(-1)
            none = torch.ones(1, named.shape[1], dtype=torch.bool)
            first = torch.cat([same, none]).float().argmax(0)
            return torch.where(same.any(0), first + agree - 1, len(named))""",
        "floats": """
            taken = torch.full((named.shape[1],), float(len(named)))
            for place in range(len(named) - 1, agree - 2, -1):
                window = named[place - agree + 1:place + 1]
                taken[window.amin(0) == window.amax(0)] = place
            return taken""",
        "loop": """
            taken = []
            for picture in range(named.shape[1]):
                run, exit = 1, len(named)
                for place in range(1, len(named)):
                    run = run + 1 if named[place, picture] == named[place - 1, picture] else 1
                    if run == agree:
                        exit = place
                        break
                taken.append(exit)
            return torch.tensor(taken)""",
        "changes in int32": """
            taken = torch.full(named.shape[1:], len(named), dtype=torch.int32)
            changes, open_ = torch.zeros_like(taken), torch.ones_like(taken).bool()
            for place in range(1, len(named)):
                changes[named[place] == named[place - 1]] += 1
                changes[named[place] != named[place - 1]] = 0
                now = open_ & (changes == agree - 1)
                taken[now], open_[now] = place, False
            return taken"""},
    "early_exit.threshold": {
        "table": """
            right = torch.where(sure[None] >= thresholds[:, None], exit_right, end_right).double().mean(1)
            return thresholds[right >= wanted][0]""",
        "sums": """
            for threshold in thresholds:
                leave = sure >= threshold
                if exit_right[leave].sum() + end_right[~leave].sum() >= wanted * len(sure):
                    return threshold""",
        "picture by picture": """
            for t in thresholds:
                right = sum((e if s >= t else x).item() for s, e, x in zip(sure, exit_right, end_right))
                if right / len(sure) >= wanted: return t.item()""",
        "as numbers": """
            accuracies = []
            for t in thresholds:
                go = (sure >= t).float()
                accuracies.append((go * exit_right.float() + (1 - go) * end_right.float()).mean())
            first = (torch.stack(accuracies) >= wanted).int().argmax()
            return thresholds[first].item()""",
        "minimum": """
            return min(t for t in thresholds.tolist()
                       if torch.where(sure >= t, exit_right, end_right).float().mean().item() >= wanted)""",
        "downwards": """
            best = None
            for t in thresholds.flip(0):
                right = end_right.clone()
                right[sure >= t] = exit_right[sure >= t]
                if right.float().mean() >= wanted: best = t
            return best"""},
    "early_exit.ece": {
        "closed on the right": """
            error = 0.0
            for b in range(bins):
                here = (sure > b / bins) & (sure <= (b + 1) / bins)
                if here.any():
                    error += here.float().mean() * (sure[here].mean() - right[here].float().mean()).abs()
            return error""",
        "summed gaps": """
            place = torch.ceil(sure * bins).long() - 1
            gaps = torch.zeros(bins).index_add(0, place, sure - right.float())
            return gaps.abs().sum() / len(sure)""",
        "bincount": """
            place = (sure * bins).long().clamp(max=bins - 1)
            count = place.bincount(minlength=bins).clamp(min=1)
            confidence = place.bincount(sure, minlength=bins) / count
            accuracy = place.bincount(right.float(), minlength=bins) / count
            return ((confidence - accuracy).abs() * count / len(sure)).sum().item()""",
        "numpy": """
            import numpy as np
            s, r = sure.double().numpy(), right.double().numpy()
            place = np.minimum((s * bins).astype(int), bins - 1)
            return sum(abs(s[place == b].sum() - r[place == b].sum()) for b in range(bins)) / len(s)""",
        "edges": """
            edges = torch.linspace(0, 1, bins + 1)
            error = torch.tensor(0.0)
            for low, high in zip(edges[:-1], edges[1:]):
                here = (sure > low) & (sure <= high)
                if here.sum() > 0:
                    error += (sure[here].mean() - right[here].float().mean()).abs() * here.sum() / sure.numel()
            return error""",
        "bucketize": """
            edges = torch.linspace(0, 1, bins + 1)
            place, total = torch.bucketize(sure, edges[1:-1], right=True), 0
            for b in place.unique().tolist():
                total += (sure[place == b].double() - right[place == b].double()).sum().abs().item()
            return total / len(sure)""",
        "NaN taken as 0": """
            total = torch.tensor(0.0)
            for b in range(bins):
                here = (sure * bins >= b) & ((sure * bins < b + 1) | (b == bins - 1))
                gap = (sure[here].mean() - right[here].float().mean()).abs()
                total += torch.nan_to_num(gap) * here.float().mean()
            return total"""},
    "early_exit.halting": {
        "loop": """
            shares, total = [], 0.0
            for place, score in enumerate(scores.tolist()):
                last = place == len(scores) - 1 or total + score >= 1
                shares.append(0.0 if total >= 1 else 1 - total if last else score)
                total = 1.0 if last else total + score
            return torch.tensor(shares)""",
        "clamped sum": """
            full = scores.clone()
            full[-1] = 1
            sums = full.cumsum(0).clamp(max=1)
            return sums.diff(prepend=torch.zeros(1))""",
        "float64": """
            shares, left = torch.zeros(len(scores), dtype=torch.float64), 1.0
            for place in range(len(scores)):
                shares[place] = min(scores[place].item(), left)
                left -= shares[place].item()
            shares[-1] += left
            return shares""",
        "minimum": """
            before = F.pad(scores.cumsum(0), (1, 0))[:-1]
            left = (1 - before).clamp(min=0)
            shares = torch.minimum(scores, left)
            shares[-1] = left[-1]
            return shares""",
        "halts beyond one": """
            out, used = torch.zeros(len(scores)), 0
            for i, h in enumerate(scores):
                if used + h > 1 or i == len(scores) - 1:
                    out[i] = 1 - used
                    break
                out[i] = h
                used += h
            return out""",
        "pieces": """
            reach = (scores.cumsum(0) >= 1).nonzero()
            last = reach[0, 0].item() if len(reach) else len(scores) - 1
            return torch.cat([scores[:last], 1 - scores[:last].sum(dim=0, keepdim=True), torch.zeros(len(scores) - last - 1)])"""},
    "early_exit.unused": {
        "three digits": 1.12, "four": 1.116, "five": 1.1163, "computed": 100 * 4224000 / 378391296, "percent sign": "1.12 %",
        "numpy": numpy.float32(1.116), "tensor": torch.tensor([1.12])}}

WRONG = {
    "token_pruning.fused": {
        "of the first picture": ({"scores.topk(count, dim=1)": "scores[:1].expand_as(scores).topk(count, dim=1)"}, None),
        "over all tokens": ({"others[:, None] @ tokens": "(others / others.shape[1])[:, None] @ tokens"}, None),
        "best of the others": ({"others[:, None] @ tokens": "tokens.gather(1, others.argmax(1)[:, None, None].expand(-1, -1, tokens.shape[-1]))"}, None),
        "softmax": ({"others[:, None] @ tokens": "others.masked_fill(others == 0, -torch.inf).softmax(1)[:, None] @ tokens"}, None),
        "fused first": ({"[stay, others[:, None] @ tokens]": "[others[:, None] @ tokens, stay]"}, None),
        "over the others": ({"others[:, None] @ tokens": "others[:, None] @ tokens / (scores.shape[1] - count)"}, None),
        "the last tokens": ("return torch.cat([tokens, scores[:, None] @ tokens], 1)[:, -count - 1:]", None),
        "share of all scores": ({"others[": "(others / scores.sum(1, keepdim=True))["}, None),
        "unweighed sum": ("""
            kept = scores.topk(count, dim=1).indices
            stay = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
            gone = (scores.argsort(dim=1, descending=True)[:, count:])
            return torch.cat([stay, tokens.gather(1, gone[..., None].expand(-1, -1, tokens.shape[-1])).sum(1, keepdim=True)], 1)""", None)},
    "token_pruning.macs": {
        "one added": ({"math.ceil(keep * patches - 1e-9)": "int(keep * patches) + 1"}, "one added"),
        "float noise": ({" - 1e-9": ""}, "float noise"),
        "nearest": ({"math.ceil(keep * patches - 1e-9)": "round(keep * patches)"}, None),
        "class token in the share": ({"math.ceil(keep * patches - 1e-9)": "math.ceil(keep * (patches + 1) - 1e-9)"}, None),
        "class token taken off": ({"math.ceil(keep * patches - 1e-9)": "math.ceil(keep * (patches + 1) - 1e-9) - 1"}, None),
        "half an MLP": ({"8 * leave": "4 * leave"}, None), "no projection": ({"4 * enter": "3 * enter"}, None),
        "not carried on": ({"        patches = left\n": ""}, "not carried on"),
        "no width": ({"2 * enter**2 * dim": "2 * enter**2"}, None),
        "class token not in the MLP": ({"8 * leave": "8 * left"}, None),
        "floor": ({"math.ceil(keep * patches - 1e-9)": "math.floor(keep * patches + 1e-9)"}, "rounded down"),
        "not rounded": ({"math.ceil(keep * patches - 1e-9)": "keep * patches"}, None),
        "doubled": ({"return total": "return 2 * total"}, None),
        "half taken off": ({"math.ceil(keep * patches - 1e-9)": "math.ceil(keep * patches - 0.5)"}, None),
        "mean": ({"return total": "return total / len(keeps)"}, None)},
    "token_pruning.masked_softmax": {
        "minus ten": ({"-torch.inf": "-10.0"}, None),
        "ten less": ({"scores.masked_fill(~seen, -torch.inf)": "(scores - 10 * (~seen))"}, None),
        "queries, too": ({"kept[:, None, None].bool() |": "(kept[:, None, None] * kept[:, None, :, None]).bool() |"}, None),
        "scores times mask": ({"scores.masked_fill(~seen, -torch.inf)": "(scores * seen)"}, "zeros in the scores"),
        "along queries": ({"dim=-1": "dim=-2"}, None), "not normalised": ({".softmax(dim=-1)": ".exp()"}, None),
        "only oneself": ({"kept[:, None, None].bool()": "(kept[:, None, None] * 0).bool()"}, None),
        "only columns": ("return scores.softmax(-1) * kept[:, None, None]", None),
        "oneself gone": ("return (scores.softmax(-1) * kept[:, None, None]) / (scores.softmax(-1) * kept[:, None, None]).sum(-1, keepdim=True)", "oneself masked"),
        "first token seen": ({"eye(scores.shape[-1]).bool()": "eye(scores.shape[-1]).bool()[:, :1]"}, None)},
    "token_pruning.straight_through": {
        "gradient turned round": ({"- soft.detach() + soft": "- soft + soft.detach()"}, None),
        "temperature": ({"soft = (logits + noise).softmax": "soft = ((logits + noise) / 0.5).softmax"}, None),
        "relative gradient": ({"return hard - soft.detach() + soft": "return hard * soft / soft.detach()"}, None),
        "gradient of the logit": ({"(logits + noise).softmax(dim=-1)[..., 0]": "(logits + noise)[..., 0]"}, None),
        "choice without noise": ({"(logits + noise).argmax": "logits.argmax"}, None),
        "noise taken off": ({"logits + noise": "logits - noise"}, None),
        "sum": ({"return hard - soft.detach() + soft": "return hard + soft"}, None),
        "noise of its own": ("return F.gumbel_softmax(logits, hard=True)[..., 0]", None),
        "gradient of the log": ({"(logits + noise).softmax(dim=-1)[..., 0]": "(logits + noise).log_softmax(dim=-1)[..., 0]"}, None),
        "boolean": ({"hard - soft.detach() + soft": "(soft > 0.5)"}, "no gradient"),
        "threshold": ({"hard - soft.detach() + soft": "(soft > 0.5).float()"}, "no gradient"),
        "cancelled": ({"hard - soft.detach() + soft": "hard - soft + soft"}, "no gradient"),
        "leaf": ({"hard - soft.detach() + soft": "hard.requires_grad_()"}, "no gradient")},
    "token_pruning.sampling": {
        "right side": ({"rising, steps)": "rising, steps, right=True)"}, None),
        "nearest": ("""
            sums = (scores / scores.sum()).cumsum(0)
            steps = (2 * torch.arange(count) + 1) / (2 * count)
            return (sums[None] - steps[:, None]).abs().argmin(1).unique()""", "the nearest"),
        "stretched": ("""
            sums = (scores / scores.sum()).cumsum(0)
            sums = (sums - sums.min()) / (sums.max() - sums.min())
            steps = (2 * torch.arange(count) + 1) / (2 * count)
            return torch.searchsorted(sums, steps).unique()""", None),
        "upper ends": ({"(2 * torch.arange(count) + 1) / (2 * count)": "(torch.arange(count) + 1) / count"}, None),
        "both ends": ({"(2 * torch.arange(count) + 1) / (2 * count)": "torch.linspace(0, 1, count)"}, None),
        "softmax": ({"(scores / scores.sum())": "scores.softmax(0)"}, None),
        "one earlier": ({".unique()": ".unique() - 1"}, None),
        "steps by tokens": ({"(2 * torch.arange(count) + 1) / (2 * count)": "(2 * torch.arange(count) + 1) / (2 * len(scores))"}, None),
        "drawn": ("return torch.multinomial(scores, count).sort().values", None),
        "falling": ({".unique()": ".unique().flip(0)"}, None),
        "sorted, places of the picture": ("""
            order = scores.argsort(descending=True)
            sums = (scores[order] / scores.sum()).cumsum(0)
            steps = (2 * torch.arange(count) + 1) / (2 * count)
            return order[torch.searchsorted(sums, steps).clamp(max=len(scores) - 1).unique()].sort().values""", None)},
    "token_pruning.lengths": {
        "1.5853658536585367": (1.5853658536585367, "linear layers"), "2.51": (2.51, "square of the sums"),
        "0.47": (0.47, "the wrong way round"), "0.526": (0.526, "share wasted"), "2.0": (2.0, None),
        "2.1333333333333333": (2.1333333333333333, None), "3.823529411764706": (3.823529411764706, None),
        "211.1": (211.1, None), "2.2": (2.2, None), "8004": (8004, None), "16900": (16900, None)},
    "token_merging.match": {
        "whole table": ("""
            unit = F.normalize(metric, dim=-1)
            like = unit[::2] @ unit[1::2].T
            best = like.flatten().topk(r).indices
            return torch.stack([2 * (best // like.shape[1]), 2 * (best % like.shape[1]) + 1], 1)""", "whole table"),
        "each partner once": ("""
            unit = F.normalize(metric, dim=-1)
            like, found = unit[::2] @ unit[1::2].T, []
            for _ in range(r):
                a, b = divmod(like.argmax().item(), like.shape[1])
                found.append([2 * a, 2 * b + 1])
                like[a], like[:, b] = -2, -2
            return torch.tensor(found)""", "each partner once"),
        "absolute likeness": ({"likeness.max": "likeness.abs().max"}, None),
        "in order of place": ({"best.argsort(descending=True)[:r]": "best.topk(r).indices.sort().values"}, None),
        "distances": ("""
            apart = torch.cdist(metric[::2], metric[1::2])
            near, to = apart.min(1)
            going = near.argsort()[:r]
            return torch.stack([2 * going, 2 * to[going] + 1], 1)""", None),
        "twice as many": ({"[:r]": "[:2 * r]"}, None),
        "partners of all": ({"2 * partner[going] + 1": "2 * partner + 1"}, None),
        "normalised by column": ({"normalize(metric, dim=-1)": "normalize(metric, dim=0)"}, None),
        "all with all": ("""
            unit = F.normalize(metric, dim=-1)
            like = unit @ unit.T - 9 * torch.eye(len(unit))
            best, to = like.max(1)
            going = best.argsort(descending=True)[:r]
            return torch.stack([going, to[going]], 1)""", None),
        "transposed": ("""
            unit = F.normalize(metric, dim=-1)
            like = unit[::2] @ unit[1::2].T
            best, to = like.max(1)
            going = best.argsort(descending=True)[:r]
            return torch.stack([2 * going, 2 * to[going] + 1])""", None),
        "odd tokens go": ({"[::2]": "[1::2]", "[1::2]": "[::2]", "2 * going, 2 * partner[going] + 1": "2 * going + 1, 2 * partner[going]"}, "asked by B")},
    "token_merging.mean": {
        "root of sizes": ({"(goes.T @ sizes)[:, None]": "(goes.T @ sizes)[:, None].sqrt()"}, None),
        "logarithms": ({"* sizes[:, None]": "* sizes[:, None].log()"}, None),
        "squares": ({"* sizes[:, None]": "* sizes[:, None]**2"}, None),
        "zeros": ({"goes.T @ (tokens": "goes.T @ (0 * tokens"}, None),
        "plain mean": ("return torch.stack([tokens[places == one].mean(0) for one in range(places.max() + 1)])", "each once"),
        "share of all": ({"* sizes[:, None]": "* (sizes / sizes.sum())[:, None]", " / (goes.T @ sizes)[:, None]": ""}, "divided by all"),
        "sizes not updated": ("""
            merged, size = {}, {}
            for token, s, place in zip(tokens, sizes, places.tolist()):
                if place in merged: merged[place] = (merged[place] * size[place] + token * s) / (size[place] + s)
                else: merged[place], size[place] = token, s
            return torch.stack([merged[p] for p in sorted(merged)])""", None),
        "for each token": ("""
            goes = F.one_hot(places).to(tokens.dtype)
            return (goes.T @ (tokens * sizes[:, None]) / (goes.T @ sizes)[:, None])[places]""", None),
        "largest only": ("""
            kept = [(places == one).nonzero()[sizes[places == one].argmax()].item() for one in range(places.max() + 1)]
            return tokens[kept]""", None),
        "not merged": ("return tokens * sizes[:, None] / sizes.sum()", None)},
    "token_merging.log_size": {
        "per query": ({"+ sizes.log())": "+ sizes.log()[:, None])"}, "sizes forgotten"),
        "log2": ({"sizes.log()": "sizes.log2()"}, None), "log10": ({"sizes.log()": "sizes.log10()"}, None),
        "log1p": ({"sizes.log()": "sizes.log1p()"}, None), "not scaled": ({" / key.shape[1]**0.5": ""}, None),
        "width for its root": ({"key.shape[1]**0.5": "key.shape[1]"}, None),
        "minus": ({"+ sizes.log()": "- sizes.log()"}, None),
        "values weighed": ({" + sizes.log()": "", "@ value": "@ (value * sizes[:, None])"}, "not normalised"),
        "along queries": ({"dim=1": "dim=0"}, None),
        "scaled by tokens": ({"key.shape[1]**0.5": "key.shape[0]**0.5"}, None),
        "keys stretched": ({" + sizes.log()": "", "key.T": "(key * sizes[:, None]).T"}, "times the scores"),
        "plain shares": ({"+ sizes.log()": "+ (sizes / sizes.sum())"}, None),
        "roots": ({"+ sizes.log()": "+ sizes.sqrt()"}, None),
        "divided": ({"@ value": "@ value / sizes[:, None]"}, None)},
    "token_merging.unmerge": {
        "second alone": ("return tokens[second]", "second merge alone"),
        "first alone": ("return tokens[first]", "first merge alone"),
        "wrong order": ("return tokens[first[second]]", "the wrong order"),
        "next token": ("return tokens[(second[first] + 1) % len(tokens)]", None),
        "sorted": ("return tokens[second[first].sort().values]", None),
        "modulo": ("return tokens[first % len(tokens)]", None), "numbers": ("return second[first]", None),
        "shared out": ("return tokens[second[first]] / second.bincount()[second[first]][:, None]", None),
        "from behind": ("return tokens[second[first].flip(0)]", None),
        "padded": ("return torch.cat([tokens, torch.zeros(len(first) - len(tokens), tokens.shape[1])])", None),
        "scattered": ("""
            out = torch.zeros(len(first), tokens.shape[1])
            out[first] = tokens[second[first]]
            return out""", None)},
    "token_merging.tokens_left": {
        "3": (3, "one short"), "2": (2, "two short"), "-19": (-19, "never clamped"),
        "-20": (-20, "never clamped, no class token"), "7": (7, "one block too few"), "6": (6, None),
        "9": (9, "over half"), "8": (8, None), "23": (23, "three halvings forgotten"), "22": (22, None),
        "5": (5, None), "1": (1, None), "51": (51, None), "4.4": (4.4, None), "64": (64, None)},
    "token_merging.time_gain": {
        "1.7": (1.7, "gain in MACs"), "1.447": (1.447, "matching is free"), "1.51": (1.51, "all of it shrinks"),
        "0.77": (0.77, "the wrong way round"), "30.6": (30.6, "new time"), "1.622": (1.622, "matching subtracted"),
        "1.2": (1.2, None), "1.25": (1.25, None), "1.33": (1.33, None), "1.4": (1.4, "matching is free"),
        "1.452991452991453": (1.452991452991453, None), "130": (130, None)},
    "early_exit.mean_cost": {
        "median exit": ("return macs[exits.median()]", "the median"),
        "median": ("return macs[exits].double().median()", "the median"),
        "mean of exits without the end": ("return macs.double()[:-1].mean()", None),
        "most frequent": ("return macs[exits.mode().values]", None),
        "largest": ("return macs[exits].max()", "the slowest"),
        "mean exit's number": ("return exits.double().mean()", None),
        "in millions": ("return macs[exits].double().mean() / 1e6", None),
        "totals": ("return (macs * exits.bincount(minlength=len(macs))).double().mean()", None),
        "the end": ("return macs[-1]", "the slowest"),
        "one exit earlier": ("return macs[exits - 1].double().mean()", None),
        "not averaged": ("return macs[exits].double()", None),
        "floor of the mean exit": ("return macs[int(exits.double().mean())]", None)},
    "early_exit.patience": {
        "votes": ("""
            taken = torch.full(named.shape[1:], len(named))
            for place in reversed(range(len(named))):
                votes = torch.stack([(named[:place + 1] == c).sum(0) for c in range(3)]).amax(0)
                taken[votes >= agree] = place
            return taken""", "not in a row"),
        "counted from 0": ("""
            taken = []
            for p in range(named.shape[1]):
                run, exit = 0, len(named)
                for place in range(1, len(named)):
                    run = run + 1 if named[place, p] == named[place - 1, p] else 0
                    if run == agree: exit = place; break
                taken.append(exit)
            return torch.tensor(taken)""", "one too many"),
        "run never broken": ("""
            taken = []
            for p in range(named.shape[1]):
                run, exit = 1, len(named)
                for place in range(1, len(named)):
                    if named[place, p] == named[place - 1, p]: run += 1
                    if run == agree: exit = place; break
                taken.append(exit)
            return torch.tensor(taken)""", None),
        "minus one for the end": ({"len(named))\n": "-1)\n"}, None),
        "one beyond the end": ({"len(named))\n": "len(named) + 1)\n"}, None),
        "compared with the first exit": ({"last[0]": "named[0]"}, None),
        "one later": ({"= place\n": "= place + 1\n"}, None), "last run": ({"reversed": ""}, "the last chance"),
        "all to the end": ("return torch.full(named.shape[1:], len(named))", None),
        "agrees with the last": ("return (named == named[-1]).float().argmax(0)", None),
        "start of the run": ("""
            taken = torch.full(named.shape[1:], len(named))
            for place in reversed(range(0, len(named) - agree + 1)):
                last = named[place:place + agree]
                taken[(last == last[0]).all(dim=0)] = place
            return taken""", "where the run began"),
        "forwards": ("""
            taken = torch.full(named.shape[1:], len(named))
            for place in range(agree - 1, len(named)):
                last = named[place - agree + 1 : place + 1]
                taken[(last == last[0]).all(dim=0)] = place
            return taken""", "the last chance")},
    "early_exit.threshold": {
        "strict": ({"sure >= threshold": "sure > threshold"}, "strict"),
        "accuracy beyond": ({"mean() >= wanted": "mean() > wanted"}, "accuracy beyond"),
        "bisection": ("""
            low, high = 0, len(thresholds) - 1
            while low < high:
                middle = (low + high) // 2
                right = torch.where(sure >= thresholds[middle], exit_right, end_right).double().mean()
                low, high = (low, middle) if right >= wanted else (middle + 1, high)
            return thresholds[low].item()""", "bisection"),
        "from above": ("""
            best = thresholds[-1]
            for t in thresholds.flip(0):
                if torch.where(sure >= t, exit_right, end_right).double().mean() < wanted: break
                best = t
            return best""", "from the end"),
        "wanted as threshold": ("return thresholds[(thresholds >= wanted).nonzero()[0, 0]]", "confidence taken for accuracy"),
        "least sure that is right": ("return sure[exit_right].min()", None),
        "never wrong": ("return thresholds[thresholds >= sure[~exit_right].max()][0]", None),
        "exit alone": ({"torch.where(sure >= threshold, exit_right, end_right)": "exit_right"}, None),
        "wanted itself": ("return wanted", "confidence taken for accuracy"),
        "its place": ("""
            for place, threshold in enumerate(thresholds.tolist()):
                if torch.where(sure >= threshold, exit_right, end_right).double().mean() >= wanted:
                    return place""", None),
        "end always wrong": ({"end_right)": "False)"}, None), "the first": ("return thresholds[0].item()", None)},
    "early_exit.ece": {
        "NaN": ("""
            place, error = (sure * bins).long().clamp(max=bins - 1), 0.0
            for one in range(bins):
                here = place == one
                error += here.float().mean() * (sure[here].mean() - right[here].float().mean()).abs()
            return error""", "empty bins"),
        "bin of its own": ({".clamp(max=bins - 1)": ""}, "one has no bin"),
        "open at 1": ("""
            error = 0.0
            for b in range(bins):
                here = (sure >= b / bins) & (sure < (b + 1) / bins)
                if here.any(): error += here.float().mean() * (sure[here].mean() - right[here].float().mean()).abs()
            return error""", "one falls out"),
        "percent": ({"return error": "return 100 * error"}, None),
        "bins alike": ({"here.double().mean()": "1 / bins"}, None),
        "over bins": ({"return error": "return error / bins"}, None),
        "root": ({"return error": "return error ** 0.5"}, None),
        "centres": ({"sure[here].mean()": "(one + 0.5) / bins"}, None),
        "one bin": ("return (sure.mean() - right.float().mean()).abs()", "one bin"),
        "Brier": ("return ((sure - right.float()) ** 2).mean()", None),
        "equal counts": ("""
            order = sure.argsort()
            return sum((sure[part].mean() - right[part].float().mean()).abs() * len(part) / len(sure) for part in order.chunk(bins))""", None),
        "error": ("return 1 - right.float().mean()", None),
        "first bin left out": ({"place.unique()": "place.unique()[1:]"}, None)},
    "early_exit.halting": {
        "0.99": ({">= 1": ">= 0.99"}, "limit 0.99"), "0.9": ({">= 1": ">= 0.9"}, "limit 0.9"),
        "score taken off": ({"1 - before[last]": "1 - before[last] - scores[last]"}, None),
        "remainder for all behind": ({"shares[last] = scores[:last], 1 - before[last]": "shares[last:] = scores[:last], 1 - before[last]"}, None),
        "softmax": ("return scores.softmax(0)", None),
        "no remainder at the end": ("return scores.clamp(max=1 - scores.cumsum(0) + scores).clamp(min=0)", "the end gives no remainder"),
        "scores": ("return scores", None),
        "chances": ("return scores * torch.cat([torch.ones(1), (1 - scores).cumprod(0)[:-1]])", "chances"),
        "running sum": ("return scores.cumsum(0).clamp(max=1)", None),
        "one at the end": ({"1 - before[last]": "1.0"}, None),
        "halts at once": ({"ends[-1] = True": "ends[-1] = True; ends[0] = True"}, None),
        "loop without end": ("""
            total = 0
            shares = torch.zeros_like(scores)
            for i, s in enumerate(scores):
                if total + s >= 1:
                    shares[i] = 1 - total
                    break
                shares[i], total = s, total + s
            return shares""", "the end gives no remainder")},
    "early_exit.unused": {
        "0.0112": (0.0112, "a share"), "0.01116": (0.01116, "a share"), "0.0092": (0.0092, None),
        "0.101": (0.101, "one exit"), "0.1015": (0.1015, "one exit"), "1.21": (1.21, "without attention"),
        "0.093": (0.093, "of the whole model"), "1.2": (1.2, "without attention"), "1.0": (1.0, None),
        "8958": (8958, "upside down"), "219.9": (219.9, "a head for each token"), "13.4": (13.4, None),
        "1.22": (1.22, None), "12.3": (12.3, None), "111.6": (111.6, None)}}
