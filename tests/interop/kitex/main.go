// The interop driver on Kitex: calls the generated clients as tests/interop/README.md says, one goroutine a call.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/connpool"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/transport"

	brokers "clymq-interop/kitex_gen/clymq/server_operations"
	coordinators "clymq-interop/kitex_gen/clymq/zkserver_operations"
)

var clients map[string]reflect.Value
var out sync.Mutex

func options(form, address string) []client.Option {
	// Kitex waits 50 ms for a connection, too little for hundreds at once on a busy machine.
	result := []client.Option{client.WithHostPorts(address), client.WithRPCTimeout(time.Minute),
		client.WithConnectTimeout(10 * time.Second)}
	if form != "default" && form != "ttheader-mux" {
		result = append(result, client.WithLongConnection(connpool.IdleConfig{MaxIdlePerAddress: 10, MaxIdleGlobal: 100,
			MaxIdleTimeout: time.Minute}))
	}
	switch form {
	case "default": // whatever this version does without options: a connection for each call
	case "unframed":
		result = append(result, client.WithTransportProtocol(transport.PurePayload))
	case "framed":
		result = append(result, client.WithTransportProtocol(transport.Framed))
	case "ttheader":
		result = append(result, client.WithTransportProtocol(transport.TTHeader))
	case "ttheader-framed":
		result = append(result, client.WithTransportProtocol(transport.TTHeaderFramed))
	case "ttheader-mux":
		result = append(result, client.WithTransportProtocol(transport.TTHeader), client.WithMuxConnection(1))
	default:
		panic("unknown form " + form)
	}
	return result
}

// The field of a generated struct by its name in the IDL.
func field(value reflect.Value, name string) reflect.Value {
	for i := 0; i < value.NumField(); i++ {
		if strings.Split(value.Type().Field(i).Tag.Get("thrift"), ",")[0] == name {
			return value.Field(i)
		}
	}
	panic("no field " + name)
}

func set(value reflect.Value, text string) {
	if value.Kind() == reflect.Ptr {
		value.Set(reflect.New(value.Type().Elem()))
		value = value.Elem()
	}
	kind, text := text[:2], text[2:]
	switch kind {
	case "s:":
		bytes, err := hex.DecodeString(text)
		if err != nil {
			panic(err)
		}
		if value.Kind() == reflect.String {
			value.SetString(string(bytes))
		} else {
			value.SetBytes(bytes)
		}
	case "i:":
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic(err)
		}
		value.SetInt(number)
	case "t:":
		value.SetBool(text == "1")
	}
}

func show(value reflect.Value) string {
	switch value.Kind() {
	case reflect.String:
		return "s:" + hex.EncodeToString([]byte(value.String()))
	case reflect.Slice:
		return "s:" + hex.EncodeToString(value.Bytes())
	case reflect.Bool:
		if value.Bool() {
			return "t:1"
		}
		return "t:0"
	}
	return "i:" + strconv.FormatInt(value.Int(), 10)
}

func answer(err error, response reflect.Value) string {
	if err != nil {
		var typed interface{ TypeID() int32 }
		if errors.As(err, &typed) {
			return fmt.Sprintf("exception\t%d\t%s", typed.TypeID(), hex.EncodeToString([]byte(err.Error())))
		}
		return "error\t" + hex.EncodeToString([]byte(err.Error()))
	}
	text := "ok"
	response = response.Elem()
	for i := 0; i < response.NumField(); i++ {
		name := strings.Split(response.Type().Field(i).Tag.Get("thrift"), ",")[0]
		value := response.Field(i)
		if value.Kind() == reflect.Ptr {
			if value.IsNil() {
				continue
			}
			value = value.Elem()
		}
		text += "\t" + name + "=" + show(value)
	}
	return text
}

func call(line string) {
	words := strings.Split(line, "\t")
	service := clients[words[1]]
	var method reflect.Value
	for i := 0; i < service.NumMethod(); i++ {
		if strings.EqualFold(service.Type().Method(i).Name, words[2]) {
			method = service.Method(i)
		}
	}
	request := reflect.New(method.Type().In(1).Elem())
	for _, word := range words[3:] {
		parts := strings.SplitN(word, "=", 2)
		set(field(request.Elem(), parts[0]), parts[1])
	}
	results := method.Call([]reflect.Value{reflect.ValueOf(context.Background()), request})
	err, _ := results[1].Interface().(error)
	text := answer(err, results[0])
	out.Lock()
	fmt.Printf("%s\t%s\n", words[0], text)
	out.Unlock()
}

func main() {
	klog.SetLevel(klog.LevelFatal)
	form, coordinator, broker := os.Args[1], os.Args[2], os.Args[3]
	clients = map[string]reflect.Value{
		"coordinator": reflect.ValueOf(coordinators.MustNewClient("clymq", options(form, coordinator)...)),
		"broker":      reflect.ValueOf(brokers.MustNewClient("clymq", options(form, broker)...)),
		// The coordinator's methods asked of the broker.
		"stranger": reflect.ValueOf(coordinators.MustNewClient("clymq", options(form, broker)...)),
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	var running sync.WaitGroup
	for lines.Scan() {
		line := lines.Text()
		running.Add(1)
		go func() {
			call(line)
			running.Done()
		}()
	}
	running.Wait()
}
