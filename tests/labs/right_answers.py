"""Right answers of unusual style: (check, code that defines `f`)."""

RIGHT = [
    (
        "lab01.check_kv_bytes",
        """
def f(shape,batch_size,seq_len,element_size): return 2.0*batch_size*seq_len*shape.num_layers*shape.num_kv_heads*shape.head_dim*element_size
""",
    ),
    (
        "lab01.check_int4_bytes",
        """
from fractions import Fraction
def f(num_weights,group_size,scale_bits,zero_point_bits):
    full,rest=divmod(num_weights,group_size)
    return Fraction(4*num_weights+(full+(rest>0))*(scale_bits+zero_point_bits),8)
""",
    ),
    (
        "lab01.check_crossover",
        """
def f(shape,seq_len,weight_size,element_size):
    w=shape.num_params*weight_size
    one=2*shape.num_layers*shape.num_kv_heads*shape.head_dim*seq_len*element_size
    n=0
    while n*one<=w: n+=1
    return n
""",
    ),
    (
        "lab01.check_crossover",
        """
import math
def f(shape,seq_len,weight_size,element_size):
    w=shape.num_params*weight_size
    one=2*shape.num_layers*shape.num_kv_heads*shape.head_dim*seq_len*element_size
    return math.ceil(round(w+1)/one)
""",
    ),
    (
        "lab01.check_deployment",
        """
from helpers.estimates import GiB
B={"bf16": 2.0, "int8": 1.0, "int4": 0.5195}
def f(shape,seq_len,requests,devices):
    c=requests*seq_len*4*shape.num_layers*shape.num_kv_heads*shape.head_dim
    ok=[(d[2],i,d[0],t) for d in devices for i,(t,s) in enumerate(B.items()) if shape.num_params*s+c<=.9*d[1]*GiB]
    return list(min(ok)[2:]) if ok else None
""",
    ),
    (
        "lab01.check_hybrid_bytes",
        """
def f(layers,seq_len,element_size):
    kv=lambda l,n: 2*n*l['kv_heads']*l['head_dim']*element_size
    do={'full':lambda l:kv(l,seq_len),'window':lambda l:kv(l,min(l['window']-1,seq_len)),'latent':lambda l:(l['latent_dim']+l['rotated_dim'])*seq_len*element_size,'state':lambda l:l['state_elements']*4.0}
    return sum(map(lambda l: do[l['kind']](l),layers))
""",
    ),
    (
        "lab02.check_profiler",
        """
def f(engine,prompt,max_new_tokens):
    engine.next(engine.start(prompt)); engine.wait()
    b=engine.clock(); t=[engine.start(prompt)]; engine.wait(); m=engine.clock()
    for _ in range(max_new_tokens-1): t.append(engine.next(t[-1]))
    engine.wait(); e=engine.clock()
    return {'ttft':m-b,'tpot':(e-m)/max(1,len(t)-1),'tokens':t}
""",
    ),
    (
        "lab02.check_profiler",
        """
def f(engine,prompt,max_new_tokens):
    engine.next(engine.start(prompt)); engine.wait()
    b=engine.clock(); engine.start(prompt); engine.wait(); m=engine.clock()
    t=[engine.start(prompt)]; engine.wait(); m2=engine.clock()
    for _ in range(max_new_tokens-1): t.append(engine.next(t[-1])); 
    engine.wait()
    return {'ttft':m-b,'tpot':(engine.clock()-m2)/max(1,max_new_tokens-1),'tokens':t}
""",
    ),
    (
        "lab02.check_profiler",
        """
def f(engine,prompt,max_new_tokens):
    tok=engine.start(prompt)
    for _ in range(3): tok=engine.next(tok)
    engine.wait()
    b=engine.clock(); t=[engine.start(prompt)]; engine.wait(); m=engine.clock()
    times=[m]
    for _ in range(max_new_tokens-1): t.append(engine.next(t[-1])); engine.wait(); times.append(engine.clock())
    d=[b-a for a,b in zip(times,times[1:])]
    return {'ttft':m-b,'tpot':sum(d)/len(d) if d else 0.0,'tokens':tuple(t)}
""",
    ),
    (
        "lab02.check_utilisation",
        """
import numpy as np
def f(shape,batch_size,context,seconds,peak,bandwidth):
    pt=2*shape.num_layers*shape.num_kv_heads*shape.head_dim
    return np.array([2*shape.num_params*batch_size/seconds/peak, (2*shape.num_params+2*batch_size*context*pt)/seconds/bandwidth])
""",
    ),
    (
        "lab02.check_speedup",
        """
from fractions import Fraction
def f(rows,wall,names,factor):
    ns=set(names); new=Fraction(wall)
    for n,_,_,s in rows:
        if n in ns: new-=Fraction(s)*(1-1/Fraction(factor))
    return Fraction(wall)/new
""",
    ),
    (
        "lab03.check_cache",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.k=torch.zeros(num_layers,capacity,kv_heads,head_dim); self.v=torch.zeros_like(self.k); self.length=0
    def update(self,l,k,v):
        n=k.size(0); e=self.length+n
        if e>self.k.size(1): raise ValueError('full')
        at=torch.arange(self.length,e)
        self.k[l].index_copy_(0,at,k); self.v[l].index_copy_(0,at,v)
        if l+1==self.k.size(0): self.length+=n
        return [self.k[l].narrow(0,0,e),self.v[l].narrow(0,0,e)]
""",
    ),
    (
        "lab03.check_cache",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.n=num_layers;self.cap=capacity; self.k=[None]*num_layers; self.v=[None]*num_layers
    @property
    def length(self): return 0 if self.k[-1] is None else len(self.k[-1])
    def update(self,l,k,v):
        b=0 if self.k[l] is None else len(self.k[l])
        if b+len(k)>self.cap: raise ValueError('x')
        self.k[l]=k.clone() if self.k[l] is None else torch.cat([self.k[l],k]); self.v[l]=v.clone() if self.v[l] is None else torch.cat([self.v[l],v])
        return self.k[l],self.v[l]
""",
    ),
    (
        "lab03.check_cache",
        """
import torch
class f:
    def __init__(self,num_layers,capacity,kv_heads,head_dim):
        self.k=torch.zeros(num_layers,capacity,kv_heads,head_dim); self.v=torch.zeros_like(self.k); self.length=0
    def update(self,l,k,v):
        e=self.length+len(k)
        if l==0 and e>self.k.shape[1]: raise ValueError('full')
        self.k[l,self.length:e]=k; self.v[l,self.length:e]=v
        if l==len(self.k)-1: self.length=e
        return self.k[l,:e],self.v[l,:e]
""",
    ),
    (
        "lab03.check_mask",
        """
import torch
def f(lengths,new,capacity):
    m=torch.ones(len(lengths),new,capacity,dtype=torch.bool)
    for b,n in enumerate(lengths):
        m[b]=torch.ones(new,capacity,dtype=torch.bool).tril(n)
        m[b,:,n+new-1]=m[b,:,n+new-1]&(torch.arange(new)==new-1)
    return m
""",
    ),
    (
        "lab03.check_mask",
        """
import torch
def f(lengths,new,capacity):
    return torch.tensor([[[c<=n+i for c in range(capacity)] for i in range(new)] for n in lengths])
""",
    ),
    (
        "lab03.check_mask",
        """
import torch
def f(lengths,new,capacity):
    return torch.stack([torch.ones(new,capacity,dtype=torch.bool).tril(n) for n in lengths])
""",
    ),
    (
        "lab03.check_times",
        """
import torch
def f(num_params,kv_bytes,prompt,new_tokens,peak,bandwidth):
    i=torch.arange(new_tokens,dtype=torch.float64)
    a=torch.clamp(2*num_params*(prompt+i)/peak,min=2*num_params/bandwidth).sum()
    s=torch.clamp((2*num_params+kv_bytes*(prompt+i[:-1]))/bandwidth,min=2*num_params/peak).sum()
    return torch.stack([a, s+max(2*num_params*prompt/peak,2*num_params/bandwidth)])
""",
    ),
    (
        "lab04.check_match",
        """
def f(prompt,stored,page_size):
    best=0
    for t in stored:
        n=0
        while n+page_size<len(prompt) and n+page_size<=len(t) and prompt[n:n+page_size]==t[n:n+page_size]: n+=page_size
        best=max(best,n)
    return best
""",
    ),
    (
        "lab04.check_match",
        """
from itertools import takewhile
def f(prompt,stored,page_size):
    k=lambda t: sum(1 for _ in takewhile(lambda p:p[0]==p[1],zip(prompt[:-1],t)))
    return max((k(t)-k(t)%page_size for t in stored),default=0)
""",
    ),
    (
        "lab04.check_match",
        """
import numpy as np
def f(prompt,stored,page_size):
    best=0
    for t in stored:
        n=min(len(prompt)-1,len(t))
        if n<=0: continue
        eq=np.array(prompt[:n])==np.array(t[:n])
        m=int(np.argmin(eq)) if not eq.all() else n
        best=max(best,m//page_size*page_size)
    return best
""",
    ),
    (
        "lab04.check_evict",
        """
import heapq
def f(nodes,wanted):
    kids={k:0 for k in nodes}
    for n in nodes.values():
        if n['parent']: kids[n['parent']]+=1
    h=[(n['last_use'],k) for k,n in nodes.items() if not kids[k] and not n['pins']]; heapq.heapify(h)
    gone=[];freed=0
    while h and freed<wanted:
        t,k=heapq.heappop(h); gone.append(k); freed+=nodes[k]['pages']; p=nodes[k]['parent']
        if p:
            kids[p]-=1
            if not kids[p] and not nodes[p]['pins']: heapq.heappush(h,(max(t,nodes[p]['last_use']),p))
    return gone
""",
    ),
    (
        "lab04.check_evict",
        """
import heapq
def f(nodes,wanted):
    kids={k:0 for k in nodes}
    for n in nodes.values():
        if n['parent'] is not None: kids[n['parent']]+=1
    h=[(n['last_use'],k) for k,n in nodes.items() if not kids[k] and not n['pins']]; heapq.heapify(h)
    gone=[];freed=0
    while h and freed<wanted:
        t,k=heapq.heappop(h); gone.append(k); freed+=nodes[k]['pages']; p=nodes[k]['parent']
        if p is not None:
            kids[p]-=1
            if not kids[p] and not nodes[p]['pins']: heapq.heappush(h,(nodes[p]['last_use'],p))
    return tuple(gone)
""",
    ),
    (
        "lab04.check_rate",
        """
def f(prompts,page_size):
    pages=set(); hit=tot=0
    for p in prompts:
        tot+=len(p); n=0
        while n+page_size<len(p) and tuple(p[:n+page_size]) in pages: n+=page_size
        hit+=n
        for i in range(0,len(p),page_size): pages.add(tuple(p[:i+page_size]))
    return hit/tot if tot else 0
""",
    ),
    (
        "lab04.check_rate",
        """
def f(prompts,page_size):
    pages=set(); hit=tot=0
    for p in prompts:
        tot+=len(p); n=0
        while n+page_size<len(p) and tuple(p[:n+page_size]) in pages: n+=page_size
        hit+=n
        for i in range(page_size,len(p)+1,page_size): pages.add(tuple(p[:i]))
    return hit/tot if tot else 0
""",
    ),
    (
        "lab04.check_secret",
        """
def f(ask,known,alphabet,length):
    s=[]
    for _ in range(length):
        t={a:ask([*known,*s,a,-1]) for a in alphabet}
        s.append(min(t,key=t.get))
    return s
""",
    ),
    (
        "lab04.check_secret",
        """
def f(ask,known,alphabet,length):
    if len(alphabet)==1: return alphabet*length
    o=max(alphabet)+1; s=[]
    for _ in range(length):
        t=[(ask([*known,*s,a,o]),a) for a in alphabet]
        s.append(min(t)[1])
    return s
""",
    ),
    (
        "lab04.check_key",
        """
import hashlib
def f(before,tokens,salt): return hashlib.sha256(repr((before,tokens,salt)).encode()).hexdigest()
""",
    ),
    (
        "lab04.check_key",
        """
def f(before,tokens,salt): return (before or salt),tokens
""",
    ),
    (
        "lab04.check_key",
        """
def f(before,tokens,salt): return (before,tokens,salt)
""",
    ),
    (
        "lab04.check_key",
        """
def f(before,tokens,salt): return f"{salt}|{before}|{tokens}"
""",
    ),
    (
        "lab04.check_key",
        """
def f(before,tokens,salt): return f"{len(salt)}:{salt}|{before}|{tokens}"
""",
    ),
    (
        "lab04.check_key",
        """
seen={}
def f(before,tokens,salt): return seen.setdefault((before,tokens,salt if before is None else ''),len(seen))
""",
    ),
    (
        "lab04.check_key",
        """
def f(before,tokens,salt): return (('first',salt) if before is None else ('next',before), tokens)
""",
    ),
    (
        "lab07.check_update",
        """
import torch
def f(maximum,total,weighted,scores,values):
    scores,values=scores.float(),values.float()
    new=torch.maximum(maximum,scores.amax(1,keepdim=True))
    w=torch.nan_to_num((scores-new).exp()); fac=torch.nan_to_num((maximum-new).exp())
    return new,total*fac+w.sum(1,keepdim=True),weighted*fac+w@values
""",
    ),
    (
        "lab07.check_update",
        """
import torch
def f(maximum,total,weighted,scores,values):
    import math
    M,T,W=[],[],[]
    for q in range(len(scores)):
        m=float(maximum[q]); t=float(total[q]); wv=weighted[q].double().clone()
        for s,v in zip(scores[q].tolist(),values.double()):
            if s==-math.inf: continue
            if s>m:
                c=math.exp(m-s) if m>-math.inf else 0.
                t*=c; wv=wv*c; m=s
            e=math.exp(s-m); t+=e; wv=wv+e*v
        M.append([m]);T.append([t]);W.append(wv)
    return torch.tensor(M),torch.tensor(T),torch.stack(W).float()
""",
    ),
    (
        "lab07.check_update",
        """
import torch
def f(maximum,total,weighted,scores,values):
    scores,values=scores.float(),values.float()
    new=torch.maximum(maximum,scores.amax(1,keepdim=True)); sh=new.clamp(min=torch.finfo(torch.float32).min)
    w=(scores-sh).exp(); fac=(maximum-sh).exp()
    return new,total*fac+w.sum(1,keepdim=True),weighted*fac+w@values
""",
    ),
    (
        "lab07.check_tiles",
        """
def f(q_len,kv_len,query_block,key_block):
    out=[]; o=kv_len-q_len
    for q in range(0,q_len,query_block):
        for k in range(0,kv_len,key_block):
            if k<=q+query_block-1+o: out.append((q,k,min(k+key_block,kv_len)-1>q+o))
    return out
""",
    ),
    (
        "lab07.check_tiles",
        """
def f(q_len,kv_len,query_block,key_block):
    out=[]; o=kv_len-q_len
    for q in range(0,q_len,query_block):
        for k in range(0,kv_len,key_block):
            see=[j<=i+o for i in range(q,min(q+query_block,q_len)) for j in range(k,min(k+key_block,kv_len))]
            if any(see): out.append((q,k,not all(see)))
    return out
""",
    ),
    (
        "lab07.check_tiles",
        """
def f(q_len,kv_len,query_block,key_block):
    import torch
    m=torch.ones(q_len,kv_len,dtype=torch.bool).tril(kv_len-q_len); out=[]
    for q in range(0,q_len,query_block):
        for k in range(0,kv_len,key_block):
            t=m[q:q+query_block,k:k+key_block]
            if t.any(): out.append((q,k,not bool(t.all())))
    return out
""",
    ),
    (
        "lab07.check_tiles",
        """
def f(q_len,kv_len,query_block,key_block):
    import numpy as np
    m=np.tril(np.ones((q_len,kv_len),bool),kv_len-q_len); out=[]
    for q in range(0,q_len,query_block):
        for k in range(0,kv_len,key_block):
            t=m[q:q+query_block,k:k+key_block]
            if t.any(): out.append((q,k,~t.all()))
    return out
""",
    ),
    (
        "lab07.check_merge",
        """
import torch
def f(out_a,lse_a,out_b,lse_b):
    l=torch.stack([lse_a.float(),lse_b.float()]); w=torch.nan_to_num(l.softmax(0))
    return w[0,:,None]*out_a.float()+w[1,:,None]*out_b.float(), l.logsumexp(0)
""",
    ),
    (
        "lab07.check_merge",
        """
import torch
def f(out_a,lse_a,out_b,lse_b):
    out_a,lse_a,out_b,lse_b=(t.double() for t in (out_a,lse_a,out_b,lse_b))
    l=torch.logaddexp(lse_a,lse_b); s=torch.where(l==float('-inf'),0.,l)
    return [((lse_a-s).exp()[:,None]*out_a+(lse_b-s).exp()[:,None]*out_b).float(),l.float()]
""",
    ),
    (
        "lab07.check_merge",
        """
import torch
def f(out_a,lse_a,out_b,lse_b):
    out_a,lse_a,out_b,lse_b=(t.float() for t in (out_a,lse_a,out_b,lse_b))
    m=torch.maximum(lse_a,lse_b); ok=m>float('-inf'); z=torch.where(ok,m,0.)
    a,b=(lse_a-z).exp(),(lse_b-z).exp(); t=(a+b).clamp(min=1e-30)
    return (a/t)[:,None]*out_a+(b/t)[:,None]*out_b, torch.where(ok,z+t.log(),m)
""",
    ),
    (
        "lab07.check_choose",
        """
def f(head_dim,l0a,l0b,l0c,l1,ub):
    q=min(l0a//(2*head_dim), l0c//(4*head_dim))//16*16
    while q>=16:
        k=min(l0a//(2*q), l0b//(2*head_dim), l0c//(4*q), (l1//2-q*head_dim)//(q+4*head_dim), ub//(3*q))//16*16
        if k>=16: return q,k
        q-=16
    return None
""",
    ),
    (
        "lab01.check_hybrid_bytes",
        """
def f(layers,seq_len,element_size):
    t=0
    for l in layers:
        k=l['kind']
        if k=='state': t+=l['state_elements']*4
        elif k=='latent': t+=seq_len*(l['latent_dim']+l['rotated_dim'])*element_size
        else:
            n=seq_len if k=='full' else max(0,min(seq_len-1,l['window']-1)) if seq_len>=l['window'] else seq_len
            t+=2*n*l['kv_heads']*l['head_dim']*element_size
    return t
""",
    ),
    (
        "lab02.check_profiler",
        """
def f(engine,prompt,max_new_tokens):
    r=[]
    for _ in range(2):
        b=engine.clock(); t=[engine.start(prompt)]; engine.wait(); m=engine.clock()
        for _ in range(max_new_tokens-1): t.append(engine.next(t[-1]))
        engine.wait(); r.append((m-b,(engine.clock()-m)/max(1,len(t)-1)))
    return {'ttft':min(r)[0],'tpot':min(x[1] for x in r),'tokens':t}
""",
    ),
    (
        "lab02.check_speedup",
        """
def f(rows,wall,names,factor):
    own=sum(r[3] for r in rows if r[0] in names)
    rest=wall-own
    return (rest+own)/(rest+own/factor) if rest else factor
""",
    ),
    (
        "lab04.check_secret",
        """
def f(ask,known,alphabet,length):
    s=[]; o=max([*alphabet,*known])+1
    for _ in range(length):
        t={a:ask([*known,*s,a,o]) for a in alphabet}
        s.append(min(t,key=t.get))
    return s
""",
    ),
    (
        "lab04.check_secret",
        """
def f(ask,known,alphabet,length):
    s=[]; o=max(alphabet)+1
    for _ in range(length):
        t={a:ask([*known,*s,a,o]) for a in alphabet}
        s.append(sorted(alphabet,key=t.get)[0])
    return tuple(s)
""",
    ),
    (
        "lab05.check_padding",
        """
def f(prompts,answers,batch_size):
    w=0
    for i in range(0,len(prompts),batch_size):
        p,a=prompts[i:i+batch_size],answers[i:i+batch_size]; w+=len(p)*(max(p)+max(a))-sum(p)-sum(a)
    return w
""",
    ),
    (
        "lab05.check_pack",
        """
def f(requests):
    t,p,r=[],[],{}
    for i,q in enumerate(requests):
        x=q['prompt']+q['answer']; s,e=q['computed'],q['computed']+q['count']
        t+=x[s:e]; p+=range(s,e)
        if q['count'] and e==len(x): r[i]=len(t)-1
    return t,p,r
""",
    ),
    (
        "lab05.check_plan",
        """
def f(running,waiting,token_budget,chunk_size,seats,free_pages,page_size):
    out=[];left=token_budget
    for r in running:
        c=min(r['length']-r['computed'],chunk_size,left)
        if c: out.append((r['name'],c))
        left-=c
    for r in waiting:
        pg=-(-r['length']//page_size)
        if not left or len(out)>=seats or pg>free_pages: break
        c=min(r['length']-r['computed'],chunk_size,left); out.append((r['name'],c)); left-=c; free_pages-=pg
    return out
""",
    ),
    (
        "lab08.check_first",
        """
def f(waiting,now,ageing): return min(waiting,key=lambda j:(j['arrived']/ageing+j['priority'],j['arrived']))['name']
""",
    ),
    (
        "lab11.check_rows",
        """
import torch
def f(heads, kv_heads, head_dim, world, rank):
    own = torch.arange(kv_heads).tensor_split(world)[rank]
    q, k, v = torch.arange((heads + 2 * kv_heads) * head_dim).view(-1, head_dim).split([heads, kv_heads, kv_heads])
    return torch.cat([q.view(kv_heads, -1)[own].flatten(), k[own].flatten(), v[own].flatten()])
""",
    ),
    (
        "lab11.check_mlp",
        """
import torch
def f(x, residual, up, down, bias, rank, all_reduce):
    # A row more counts the ranks, so what is whole may be in the sum.
    product = torch.cat([torch.relu(x @ up.T) @ down.T + residual + bias, torch.ones(1, len(bias))])
    total = all_reduce(product)
    return total[:-1] - (total[-1:] - 1) * (residual + bias)
""",
    ),
    (
        "lab11.check_idle",
        """
def f(seconds, groups, passes):
    through, slowest = sum(seconds), max(seconds)
    end = through + (groups - 1) * slowest + (passes - 1) * max(through, groups * slowest)
    return 1 - through * groups * passes / end / len(seconds)
""",
    ),
    (
        "lab11.check_balance",
        """
def f(layers, head, stages):
    split = [1] * stages
    for _ in range(layers - stages):
        weights = [*split[:-1], split[-1] + head]
        split[weights.index(min(weights))] += 1
    return split
""",
    ),
    (
        "lab11.check_choose",
        """
def f(model, machine, limit):
    def served(tp, pp, replicas):
        left = limit - (2 * model['layers'] * machine['sums'][tp] if tp > 1 else 0) - (pp - 1) * machine['hop']
        room = (machine['memory'] * tp * pp - model['weights']) // (pp * model['cache'])
        return replicas * pp * min(room, (left * machine['bandwidth'] * tp - model['weights']) // model['cache'])
    plans = [
        (tp, pp, machine['devices'] // (tp * pp)) for tp in {1, *machine['sums']} for pp in range(1, model['layers'] + 1)
        if model['kv_heads'] % tp == 0
    ]
    return max((plan for plan in plans if served(*plan) > 0), key=lambda plan: served(*plan), default=None)
""",
    ),
    (
        "lab12.check_loop",
        """
def f(turns, seats):
    queue, seated, found, turn = [], {}, [], 0
    def fill():
        while queue and len(seated) < seats:
            name, tokens = queue.pop(0)
            seated[name] = tokens
    while turn < len(turns) or queue or seated:
        for what, name, tokens in turns[turn] if turn < len(turns) else ():
            if what == 'begin':
                queue.append((name, tokens))
            else:
                seated.pop(name, None)
                queue[:] = [one for one in queue if one[0] != name]
        fill()
        found.append(list(seated))
        for name in list(seated):
            seated[name] -= 1
            if not seated[name]:
                del seated[name]
        fill()  # already before the next actions: those cannot change whose turn it is
        turn += 1
    return found
""",
    ),
    (
        "lab12.check_events",
        """
import io
def f(pieces):
    found, data = [], None
    for line in io.BytesIO(b''.join(pieces)):
        if not line.endswith(b'\\n'):
            break
        name, colon, value = line.rstrip(b'\\r\\n').partition(b':')
        if name == b'data' and colon:
            value = value[1:] if value[:1] == b' ' else value
            data = value if data is None else data + b'\\n' + value
        if not name and not colon and data is not None:
            if data == b'[DONE]':
                break
            found.append(str(data, 'utf-8'))
            data = None
    return found
""",
    ),
    (
        "lab12.check_route",
        """
def f(requests, engines, slack):
    loads, homes, found = [0] * engines, {}, []
    for talk, tokens in requests:
        home = homes.get(talk)
        if home is None or loads[home] > min(loads) + slack:
            others = [engine for engine in range(engines) if engine != home]
            home = min(others, key=loads.__getitem__)
        homes[talk] = home
        loads[home] += tokens
        found.append(home)
    return found
""",
    ),
    (
        "lab12.check_plan",
        """
import itertools
def f(choices, ttft, tpot, share):
    def met(choice):
        in_time = [one is not None and one[0] <= ttft and one[1] <= tpot for one in choice['requests']]
        return sum(in_time) / len(in_time)
    for replicas, several in itertools.groupby(sorted(choices, key=lambda one: one['replicas']), lambda one: one['replicas']):
        good = [one for one in several if met(one) >= share]
        if good:
            return [replicas, max(good, key=met)['router']]
""",
    ),
    (
        "lab09.check_count",
        """
def f(groups, sizes, needed):
    total = 0
    home = {o['writes']: i for i, g in enumerate(groups) for o in g}
    for name, size in sizes.items():
        readers = {i for i, g in enumerate(groups) for o in g if name in o['reads']} - {home.get(name)}
        total += size * len(readers)
        total += size * bool(name in home and (readers or name in needed))
    return (float(len(groups)), float(total))
""",
    ),
    (
        "lab09.check_sizes",
        """
def f(histogram, count):
    b = sorted(histogram)
    best = None
    for mask in range(1, 2 ** len(b)):
        if bin(mask).count('1') > count or not mask >> len(b) - 1:
            continue
        w = 0
        size = None
        for i in reversed(range(len(b))):
            if mask >> i & 1:
                size = b[i]
            w += (size - b[i]) * histogram[b[i]]
        if best is None or w < best[0]:
            best = (w, mask)
    return [float(x) for i, x in enumerate(b) if best[1] >> i & 1]
""",
    ),
    (
        "lab09.check_sizes",
        """
import itertools

def f(histogram, count):
    *o, l = sorted(histogram)
    s = min(([*c, l] for c in itertools.combinations(o, min(count - 1, len(o)))), key=lambda s: sum(((min((x for x in s if x >= b)) - b) * n for b, n in histogram.items())))
    return s + [l + i for i in range(1, count - len(s) + 1)]
""",
    ),
    (
        "lab09.check_lines",
        """
def f(rows, columns, tile, per_line, kept):
    trace = [(r * columns + q) // per_line for s in range(0, columns, tile) for r in range(rows) for q in range(s, min(s + tile, columns))]
    last = {}
    c = 0
    for i, l in enumerate(trace):
        j = last.get(l)
        c += j is None or len(set(trace[j + 1:i])) >= kept
        last[l] = i
    return c
""",
    ),
    (
        "lab09.check_norm",
        """
import torch

def f(x, residual, weight, eps):
    w = x.float() + residual.float()
    t = w.to(x.dtype)
    return ((w * torch.rsqrt(w.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight, t)
""",
    ),
    (
        "lab09.check_stale",
        """
def f(first, second):
    if repr([a['operator'] for a in first]) != repr([a['operator'] for a in second]):
        raise ValueError
    return [(i, n) for i, (a, b) in enumerate(zip(first, second)) for k in ('memory', 'numbers') for n in a[k] if repr(a[k][n]) != repr(b[k][n])]
""",
    ),
    (
        "lab10.check_pack",
        """
import array

def f(codes):
    out = array.array('B')
    it = iter(codes)
    for a in it:
        b = next(it)
        a, b = (sorted((-8, c, 7))[1] for c in (a, b))
        out.append((a + 16) % 16 + 16 * ((b + 16) % 16))
    return out
""",
    ),
    (
        "lab10.check_pack",
        """
def f(codes):
    pass
    n = [min(max(c, -8), 7) & 15 for c in codes]
    return list(sum((x << 4 * i for i, x in enumerate(n))).to_bytes(len(n) // 2, 'little'))
""",
    ),
    (
        "lab10.check_groups",
        """
import torch

def f(weight, group):
    pass
    g = weight.reshape(len(weight), -1, group)
    lo, hi = (g.amin(-1, keepdim=True), g.amax(-1, keepdim=True))
    pass
    s = torch.where(hi > lo, (hi - lo) / 15, 1.0)
    o = torch.where(hi > lo, hi / s - 7, lo + 8)
    c = (g / s - o).round().clamp(-8, 7)
    return (c.to(torch.int8).reshape(weight.shape), s.squeeze(-1), o.squeeze(-1))
""",
    ),
    (
        "lab10.check_smooth",
        """
import torch

def f(x, weight, ratio):
    sx = x.abs().amax(0)
    sw = weight.abs().amax(0)
    pass
    o = (sx > ratio * sx.median()).nonzero().flatten().tolist()
    k = torch.exp(0.5 * (sx.log() - sw.log()))
    return (o, x / k, weight * k)
""",
    ),
    (
        "lab10.check_block",
        """
import torch
from helpers.compression import ascend

def one(x, gate_up, gate_up_scale, down, down_scale):
    codes, ts = ascend.npu_dynamic_quant(x)
    sums = ascend.npu_quant_matmul(codes, gate_up.t(), gate_up_scale, output_dtype=torch.int32)
    hidden, hs = ascend.npu_dequant_swiglu_quant(sums, weight_scale=gate_up_scale[None], activation_scale=ts[:, None], activate_left=True, quant_mode=1)
    return ascend.npu_quant_matmul(hidden, down.t(), down_scale, pertoken_scale=hs, output_dtype=torch.bfloat16)

def f(x, *rest, **more):
    return torch.cat([one(r[None], *rest, **more) for r in x])
""",
    ),
    (
        "lab10.check_budget",
        """
import numpy as np

def f(parts, formats, budget):
    names = list(parts)
    k = list(formats)
    shape = (len(k),) * len(names)
    t = np.zeros(shape)
    c = np.zeros(shape)
    for i, n in enumerate(names):
        view = [1] * len(names)
        view[i] = len(k)
        w = parts[n]['weights']
        t = t + np.array([w * formats[q]['bits'] / 8 + (2 * w / formats[q]['group'] if formats[q]['group'] else 0) for q in k]).reshape(view)
        c = c + np.array([parts[n]['cost'][q] for q in k], dtype=float).reshape(view)
    c = np.where(t <= budget, c, np.inf)
    if not np.isfinite(c).any():
        return None
    at = np.unravel_index(c.argmin(), shape)
    return {n: np.str_(k[j]) for n, j in zip(names, at)}
""",
    ),
    (
        "lab10.check_cache",
        """
def f(heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup):
    numbers = 2 * heads * head_dim * layers
    wide, narrow = (2 * numbers, numbers + 4 * heads * layers)

    def good(n):
        return (weight_bytes + n * wide) / bandwidth >= speedup * ((weight_bytes + n * narrow) / bandwidth + n * numbers / unpack)
    hi = 1
    while not good(hi):
        hi *= 2
        if hi > 2 ** 80:
            return (wide / narrow, None)
    lo = hi // 2
    while hi - lo > 1:
        m = (lo + hi) // 2
        if good(m):
            hi = m
        else:
            lo = m
    return (wide / narrow, hi)
""",
    ),
]
