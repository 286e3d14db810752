"""Checks golden.json with Python's hashlib, hmac and `cryptography`: none of our code."""
import base64, hashlib, hmac, json, os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
g=json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)),'golden.json')))
H=lambda b:hashlib.sha256(b).digest()
def hkdf(ikm,salt,info,n=32):
    prk=hmac.new(salt or b'\0'*32,ikm,'sha256').digest()
    return hmac.new(prk,info+b'\1','sha256').digest()[:n]
# vkey, checkpoint
def vk(v):
    name,kid,key=v.split('+',2); key=base64.b64decode(key)
    assert H(name.encode()+b'\n'+key)[:4].hex()==kid
    return name,kid,key[0],Ed25519PublicKey.from_public_bytes(key[1:])
name,kid,t,pk=vk(g['vkey']); assert t==1
text,sigs=g['checkpoint'].split('\n\n'); text+='\n'
dash,n,s=sigs.strip().split(' '); s=base64.b64decode(s)
assert n==name and s[:4].hex()==kid
pk.verify(s[4:],text.encode())
origin,size,root=text.strip().split('\n'); root=base64.b64decode(root)
assert origin==name==f"larder/{g['space']}/"+origin.split('/')[2]
# ack
aname,akid,t,apk=vk(g['ack_vkey']); assert t==4
_,n,s=g['ack'].strip().split(' '); s=base64.b64decode(s)
assert n==aname and s[:4].hex()==akid
ts=int.from_bytes(s[4:12],'big'); assert ts==1700000123
apk.verify(s[12:],f"cosignature/v1\ntime {ts}\n".encode()+text.encode())
# proof
p=g['tlog_proof']; head,note=p.split('\n\n',1); assert note==g['checkpoint']
L=head.split('\n'); assert L[0]=='c2sp.org/tlog-proof@v1'
hdr=base64.b64decode(L[1].removeprefix('extra ')); idx=int(L[2].removeprefix('index '))
path=[base64.b64decode(x) for x in L[3:]]
assert hdr.hex()==g['header']
leaf=H(b'\0'+hdr); assert leaf.hex()==g['entry_hash']
fn,sn,r=idx,int(size)-1,leaf
for q in path:
    assert sn
    if fn&1 or fn==sn:
        r=H(b'\1'+q+r)
        while not fn&1 and fn: fn>>=1; sn>>=1
    else: r=H(b'\1'+r+q)
    fn>>=1; sn>>=1
assert sn==0 and r==root
assert H(b'\0'+bytes.fromhex(g['genesis_header'])).hex()==g['space']
# sections
sec=bytes.fromhex(g['section']); assert H(b'\0'+sec).hex()==g['section_leaf']
# section CBOR: [class, masked, meta(32), sealed(32), len, salt16]
assert sec[0]==0x86
salt=sec[-16:]; i=sec.index(b'\x58\x20'); meta=sec[i+2:i+34]; sealedh=sec[i+36:i+68]
sealed=bytes.fromhex(g['sealed']); assert H(b'larder/sealed/v0'+sealed)==sealedh
space=bytes.fromhex(g['space']); dev=bytes.fromhex(origin.split('/')[2])
# header: [v, space, device, seq, deps, epoch, step, n, root]
ep=space
place=space+dev+(2).to_bytes(8,'big')+(0).to_bytes(4,'big')
key=hkdf(bytes.fromhex(g['section_secret']),salt,b'larder/section-key/v0'+place)
ad=b'larder/section-ad/v0'+place+ep+(0).to_bytes(4,'big')+b'\0'+meta
plain=AESGCM(key).decrypt(b'\0'*12,sealed,ad)
n=int.from_bytes(plain[:4],'big'); frame=plain[4:4+n]; assert not any(plain[4+n:])
assert frame[:4].hex()=='28b52ffd'
# opened / meta
C=b'\xc0'*32
assert H(b'larder/control-commitment/v0'+C).hex()==g['control_commitment']
assert hkdf(C,b'',b'larder/control-discovery/v0').hex()==g['control_discovery']
assert hkdf(C,b'',b'larder/control-section/v0').hex()==g['control_section_secret']
assert hmac.new(C,b'larder/control-mask/v0'+b'\xa5'*16,'sha256').digest()[:1].hex()==g['control_mask']
B=b'\xb0'*32
assert H(b'larder/band-commitment/v0\x02'+B).hex()==g['band_commitment']
assert hkdf(B,b'',b'larder/step/v0').hex()==g['band_next_step']
ms=b'\x5a'*16
S=lambda x:hkdf(ms,b'',b'larder/salt/v0'+x)
assert S(b'\1').hex()==g['field_salt_1']
bs=lambda b:(bytes([0x40+len(b)]) if len(b)<24 else b'\x58'+bytes([len(b)]))+b
body=b'{"title":"Bread"}'
clock=b'\x82\x1b'+(1700000000000).to_bytes(8,'big')+b'\x00'
digest=H(b'larder/body/v0'+S(b'body')+body)
fields=[b'\x01',b'\x65notes',b'\xf6',b'\xf6',b'\x67someone',b'\xf6',clock,bs(digest)]
m=H(b'larder/meta/v0'+b''.join(H(b'larder/field/v0'+S(bytes([i+1]))+f) for i,f in enumerate(fields)))
assert m.hex()==g['meta_commitment']
opened=b'\x83'+bs(ms)+b'\x87'+b''.join(fields[:7])+bs(body)
assert opened.hex()==g['opened'],(opened.hex())
print("all ok")
