package bpf
import ("testing";"errors";"github.com/cilium/ebpf")
func TestSmoke(t *testing.T){
 s,err:=Load(Options{RingBytes:1<<20,CgroupSubsystem:CgroupV2})
 var ve *ebpf.VerifierError
 if errors.As(err,&ve){ t.Fatalf("%+v",ve) }
 if err!=nil{t.Fatal(err)}
 defer s.Close()
 info,_:=s.objects.Sample.Info(); n,_:=info.VerifiedInstructions(); t.Log("verified",n)
 t.Log(s.MapBytes()); t.Log(CgroupSubsystem("memory"))
}
